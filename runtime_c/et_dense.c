#include "et_dense.h"

#include "et_share.h"
#include "et_tile.h"

et_status et_dense_f32(const et_dense_shape *shape, const float *x, const float *w, const float *bias, float *y)
{
    const et_tile tile = {
        .taps_h = 1,
        .taps_w = 1,
        .run = shape->inputs,
        .columns = shape->outputs,
        .panel_rows = shape->inputs,
        .w = w,
        .bias = bias,
    };
    const et_share own = et_share_of(shape->batch);
    const et_region rows = {
        .rows = 1,
        .columns = (int32_t)(own.end - own.first),
        .x = x + own.first * shape->inputs,
        .y = y + own.first * shape->outputs,
        .x_column = shape->inputs,
        .y_column = shape->outputs,
    };
    et_tile_region(&tile, &rows, et_tile_sum);
    return ET_OK;
}
