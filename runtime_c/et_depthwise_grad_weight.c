#include "et_depthwise_grad_weight.h"

#include "et_reach.h"
#include "et_tile.h"

/* Sums of neighbouring channels for one tap: floats, or panels of 16 lanes where there are vectors. */
#if ET_LANES == 1
#define ET_DECLARE(m, j) float c##j = 0.0f;
#define ET_ADD(m, j) c##j = et_madd(x[j], dy[j], c##j);
#define ET_STORE(m, j) dw[j] = c##j;
#define ET_COLLECT(m, j) dw[j] += c##j;
#define ET_LAST_ARGUMENT
#else
#define ET_DECLARE(m, j) et_lanes c##j = et_lanes_set(0.0f);
#define ET_LOAD(p, j) et_lanes_load(p + j * ET_PANEL, mask)
#define ET_ADD(m, j) c##j = et_lanes_madd(ET_LOAD(x, j), ET_LOAD(dy, j), c##j);
#define ET_STORE(m, j) et_lanes_store(dw + j * ET_PANEL, mask, c##j);
#define ET_COLLECT(m, j) et_lanes_store(dw + j * ET_PANEL, mask, et_lanes_add(ET_LOAD(dw, j), c##j));
#define ET_LAST_ARGUMENT , et_mask mask
#endif

#define ET_DEFINE_WEIGHT(NAME, COLUMNS)                                                                              \
    static ET_NOINLINE void NAME(const et_reach *reach, const float *x, const float *dy, float *dw,                 \
                                 int32_t accumulate ET_LAST_ARGUMENT)                                                \
    {                                                                                                                \
        COLUMNS(ET_DECLARE, 0)                                                                                       \
        const ptrdiff_t x_column = reach->x_column, dy_column = reach->dy_column;                                    \
        const ptrdiff_t width = reach->columns * dy_column;                                                          \
        for (int32_t image = reach->images; image != 0; image--) {                                                   \
            for (int32_t row = reach->rows; row != 0; row--) {                                                       \
                for (const float *end = dy + width; dy != end; x += x_column, dy += dy_column) {                     \
                    COLUMNS(ET_ADD, 0)                                                                               \
                }                                                                                                    \
                x += reach->x_row;                                                                                   \
                dy += reach->dy_row;                                                                                 \
            }                                                                                                        \
            x += reach->x_image;                                                                                     \
            dy += reach->dy_image;                                                                                   \
        }                                                                                                            \
        if (accumulate) {                                                                                            \
            COLUMNS(ET_COLLECT, 0)                                                                                   \
        } else {                                                                                                     \
            COLUMNS(ET_STORE, 0)                                                                                     \
        }                                                                                                            \
    }

ET_DEFINE_WEIGHT(weight_4, ET_COLUMNS_4)
ET_DEFINE_WEIGHT(weight_1, ET_COLUMNS_1)

static void weight_tap(const et_reach *reach, int32_t channels, const float *x, const float *dy, float *dw,
                       int32_t accumulate)
{
    int32_t channel = 0;
#if ET_LANES == 1
    for (; channels - channel >= 4; channel += 4)
        weight_4(reach, x + channel, dy + channel, dw + channel, accumulate);
    for (; channel < channels; channel++)
        weight_1(reach, x + channel, dy + channel, dw + channel, accumulate);
#else
    const et_mask all = et_mask_first(ET_PANEL);
    for (; channels - channel >= 4 * ET_PANEL; channel += 4 * ET_PANEL)
        weight_4(reach, x + channel, dy + channel, dw + channel, accumulate, all);
    for (; channel < channels; channel += ET_PANEL) {
        const int32_t left = channels - channel;
        const et_mask mask = et_mask_first(left < ET_PANEL ? left : ET_PANEL);
        weight_1(reach, x + channel, dy + channel, dw + channel, accumulate, mask);
    }
#endif
}

et_status et_depthwise_grad_weight_f32(const et_conv_shape *shape, const float *x, const float *dy, float *dw,
                                       int32_t accumulate)
{
    for (int32_t kh = 0; kh < shape->kernel_h; kh++)
        for (int32_t kw = 0; kw < shape->kernel_w; kw++) {
            const et_reach reach = et_reach_of(shape, kh, kw);
            weight_tap(&reach, shape->channels, x + reach.x_first, dy + reach.dy_first, dw, accumulate);
            dw += shape->channels;
        }
    return ET_OK;
}
