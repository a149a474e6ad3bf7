#include "et_dense.h"

#include "et_share.h"
#include "et_tile.h"

#if ET_FORM_DOT && ET_LANES == 1 && !ET_SMALL_TILES
/* One sample, one output. */
static ET_NOINLINE float dot(int32_t inputs, const float *x, const float *w, float sum)
{
    for (const float *end = x + (inputs & ~7); x != end; x += 8, w += 8) {
        sum = et_madd(x[0], w[0], sum);
        sum = et_madd(x[1], w[1], sum);
        sum = et_madd(x[2], w[2], sum);
        sum = et_madd(x[3], w[3], sum);
        sum = et_madd(x[4], w[4], sum);
        sum = et_madd(x[5], w[5], sum);
        sum = et_madd(x[6], w[6], sum);
        sum = et_madd(x[7], w[7], sum);
    }
    for (const float *end = x + (inputs & 7); x != end;)
        sum = et_madd(*x++, *w++, sum);
    return sum;
}
#endif

static et_status dense(const et_dense_shape *shape, et_end end, const float *x, const float *w, const float *bias,
                       float *y)
{
    (void)end;
#if ET_FORM_DOT && ET_LANES == 1 && !ET_SMALL_TILES
    if (shape->outputs == 1) {
        const et_share samples = et_share_of(shape->batch);
        for (ptrdiff_t n = samples.first; n < samples.end; n++) {
            const float sum = dot(shape->inputs, x + n * shape->inputs, w, bias != NULL ? *bias : 0.0f);
#if ET_HAS_ENDS
            y[n] = et_ended(sum, end, y + n);
#else
            y[n] = sum;
#endif
        }
        return ET_OK;
    }
#endif
    const et_tile tile = {
        .taps_h = 1,
        .taps_w = 1,
        .run = shape->inputs,
        .columns = shape->outputs,
        .panel_rows = shape->inputs,
        .w = w,
        .bias = bias,
#if ET_HAS_ENDS
        .end = end,
#endif
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

et_status et_dense_f32(const et_dense_shape *shape, const float *x, const float *w, const float *bias, float *y)
{
    return dense(shape, et_end_linear(), x, w, bias, y);
}

#if ET_FORM_RECTIFY
et_status et_dense_relu_f32(const et_dense_shape *shape, float ceiling, const float *x, const float *w,
                            const float *bias, float *y)
{
    return dense(shape, et_end_relu(ceiling), x, w, bias, y);
}
#endif
