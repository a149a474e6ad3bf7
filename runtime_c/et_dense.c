#include "et_dense.h"

#include "et_share.h"
#include "et_tile.h"

/* One output: a way of its own, so short that it should not pay for the frame of the other. */
#define ET_OF_ONE (ET_FORM_DOT && ET_LANES == 1 && !ET_SMALL_TILES)
#if ET_OF_ONE
#define ET_APART ET_NOINLINE
#define ET_PRODUCT(m, j) sum = et_madd(x[j], w[j], sum);

static ET_NOINLINE et_status dense_of_one(const et_dense_shape *shape, et_end end, const float *x, const float *weights,
                                          const float *bias, float *y)
{
    (void)end;
    const et_share samples = et_share_of(shape->batch);
    x += samples.first * shape->inputs;
    for (ptrdiff_t n = samples.first; n < samples.end; n++) {
        const float *w = weights;
        float sum = bias != NULL ? *bias : 0.0f;
        for (const float *last = x + (shape->inputs & ~15); x != last; x += 16, w += 16) {
            ET_COLUMNS_16(ET_PRODUCT, 0)
        }
        for (const float *last = x + (shape->inputs & 15); x != last; x++, w++)
            ET_PRODUCT(0, 0)
#if ET_HAS_ENDS
        y[n] = et_ended(sum, end, y + n);
#else
        y[n] = sum;
#endif
    }
    return ET_OK;
}
#else
#define ET_APART
#endif

static ET_APART et_status dense_by_tiles(const et_dense_shape *shape, et_end end, const float *x, const float *w,
                                         const float *bias, float *y)
{
    (void)end;
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

static inline et_status dense(const et_dense_shape *shape, et_end end, const float *x, const float *w,
                              const float *bias, float *y)
{
#if ET_OF_ONE
    if (shape->outputs == 1)
        return dense_of_one(shape, end, x, w, bias, y);
#endif
    return dense_by_tiles(shape, end, x, w, bias, y);
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
