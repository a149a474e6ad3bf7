#include "et_depthwise_grad_weight.h"

#include "et_reach.h"
#include "et_share.h"
#include "et_sink.h"
#include "et_tile.h"

/* Sums of neighbouring channels for one tap: floats, or panels of 16 lanes where there are vectors. */
#if ET_LANES == 1
#define ET_DECLARE(m, j) float c##j = 0.0f;
#define ET_ADD(m, j) c##j = et_madd(x[j], dy[j], c##j);
#define ET_STORE(m, j) dw[j] = c##j;
#define ET_LAST_ARGUMENT
#else
#define ET_DECLARE(m, j) et_lanes c##j = et_lanes_set(0.0f, mask);
#define ET_LOAD(p, j) et_lanes_load(p + j * ET_PANEL, mask)
#define ET_ADD(m, j) c##j = et_lanes_madd(ET_LOAD(x, j), ET_LOAD(dy, j), c##j, mask);
#define ET_STORE(m, j) et_lanes_store(dw + j * ET_PANEL, mask, c##j);
#define ET_LAST_ARGUMENT , et_mask mask
#endif

/* Sums that begin at what dw holds, in programs that walk over their batch. */
#if ET_WALK
#if ET_LANES == 1
#define ET_GIVEN(m, j) c##j = dw[j];
#else
#define ET_GIVEN(m, j) c##j = et_lanes_load(dw + j * ET_PANEL, mask);
#endif
#define ET_GO_ON(COLUMNS)     \
    if (goes_on) {            \
        COLUMNS(ET_GIVEN, 0)  \
    }
#define ET_GOES_ON_ARGUMENT , bool goes_on
#define ET_GOES_ON , sink->goes_on
#else
#define ET_GO_ON(COLUMNS)
#define ET_GOES_ON_ARGUMENT
#define ET_GOES_ON
#endif

#define ET_DEFINE_WEIGHT(NAME, COLUMNS)                                                            \
    static ET_NOINLINE void NAME(const et_reach *reach, const float *x, const float *dy, float *dw \
                                 ET_LAST_ARGUMENT ET_GOES_ON_ARGUMENT)                             \
    {                                                                                              \
        COLUMNS(ET_DECLARE, 0)                                                                     \
        ET_GO_ON(COLUMNS)                                                                          \
        const ptrdiff_t x_column = reach->x_column, dy_column = reach->dy_column;                  \
        const ptrdiff_t width = reach->columns * dy_column;                                        \
        for (int32_t image = reach->images; image != 0; image--) {                                 \
            for (int32_t row = reach->rows; row != 0; row--) {                                     \
                for (const float *end = dy + width; dy != end; x += x_column, dy += dy_column) {   \
                    COLUMNS(ET_ADD, 0)                                                             \
                }                                                                                  \
                x += reach->x_row;                                                                 \
                dy += reach->dy_row;                                                               \
            }                                                                                      \
            x += reach->x_image;                                                                   \
            dy += reach->dy_image;                                                                 \
        }                                                                                          \
        COLUMNS(ET_STORE, 0)                                                                       \
    }

ET_DEFINE_WEIGHT(weight_4, ET_COLUMNS_4)
ET_DEFINE_WEIGHT(weight_1, ET_COLUMNS_1)

#if ET_LANES == 1
#define ET_CHANNELS 1
typedef void weight_function(const et_reach *reach, const float *x, const float *dy, float *dw ET_GOES_ON_ARGUMENT);
#else
#define ET_CHANNELS ET_PANEL
typedef void weight_function(const et_reach *reach, const float *x, const float *dy, float *dw,
                             et_mask mask ET_GOES_ON_ARGUMENT);
#endif

/* One tap: four at a time, floats or panels, the last panel as wide as what is left. */
static void weight_tap(const et_reach *reach, et_sink *sink, int32_t channels, const float *x, const float *dy,
                       float *dw)
{
    float sums[4 * ET_CHANNELS];
    for (int32_t channel = 0; channel < channels;) {
        const int32_t left = channels - channel;
        weight_function *weight = left >= 4 * ET_CHANNELS ? weight_4 : weight_1;
        const int32_t most = left >= 4 * ET_CHANNELS ? 4 * ET_CHANNELS : ET_CHANNELS;
        const int32_t count = left < most ? left : most;
        float *target = sink->mode == ET_SINK_STORE ? dw + channel : sums;
#if ET_LANES == 1
        weight(reach, x + channel, dy + channel, target ET_GOES_ON);
#else
        weight(reach, x + channel, dy + channel, target, et_mask_first(count < ET_PANEL ? count : ET_PANEL) ET_GOES_ON);
#endif
        if (target == sums)
            et_sink_take(sink, 1, count, sums, count, dw + channel, count);
        channel += count;
    }
}

#if ET_LANES == 1 && !ET_SMALL_TILES

/* Kernels of 3 x 3 that step by one column and lose at most one row or column to padding: all nine sums of a channel
 * stay in registers, and so do the last columns of the input, which slide along the rows: x<kernel row><role>. */
#define ET_ALL_ROWS(DO, ...) DO(0, __VA_ARGS__) DO(1, __VA_ARGS__) DO(2, __VA_ARGS__)
#define ET_LOW_ROWS(DO, ...) DO(1, __VA_ARGS__) DO(2, __VA_ARGS__)
#define ET_HIGH_ROWS(DO, ...) DO(0, __VA_ARGS__) DO(1, __VA_ARGS__)

#define ET_TAP(kh, kw, role) c##kh##kw = et_madd(x##kh##role, d, c##kh##kw);
#define ET_LOAD_ROLE(kh, role) \
    x##kh##role = *p##kh;      \
    p##kh += channels;         \
    ET_OPAQUE(p##kh);
#define ET_LEFT_EDGE(kh, second, third) ET_TAP(kh, 1, second) ET_TAP(kh, 2, third)
#define ET_INSIDE(kh, first, second, third) ET_TAP(kh, 0, first) ET_TAP(kh, 1, second) ET_TAP(kh, 2, third)
#define ET_RIGHT_EDGE(kh, first, second) ET_TAP(kh, 0, first) ET_TAP(kh, 1, second)
#define ET_ROW_POINTER(kh, unused) const float *p##kh = row + kh * x_row;

/* An output inside the row, and the one at its right edge after the last of them. */
#define ET_OUTPUT(ROWS, first, second, third)      \
    {                                              \
        const float d = *dy;                       \
        dy += channels;                            \
        ET_OPAQUE(dy);                             \
        ROWS(ET_LOAD_ROLE, third)                  \
        ROWS(ET_INSIDE, first, second, third)      \
        if (--left == 0) {                         \
            if (right_edge) {                      \
                const float d = *dy;               \
                dy += channels;                    \
                ROWS(ET_RIGHT_EDGE, second, third) \
            }                                      \
            break;                                 \
        }                                          \
    }

/* One row of outputs, for the kernel rows that meet the input. */
#define ET_OUTPUT_ROW(ROWS)          \
    {                                \
        int32_t left = inside;       \
        ROWS(ET_ROW_POINTER, 0)      \
        ROWS(ET_LOAD_ROLE, 0)        \
        ROWS(ET_LOAD_ROLE, 1)        \
        if (left_edge) {             \
            const float d = *dy;     \
            dy += channels;          \
            ROWS(ET_LEFT_EDGE, 0, 1) \
        }                            \
        for (;;) {                   \
            ET_OUTPUT(ROWS, 0, 1, 2) \
            ET_OUTPUT(ROWS, 1, 2, 0) \
            ET_OUTPUT(ROWS, 2, 0, 1) \
        }                            \
    }

#define ET_ZERO(kh, unused) float c##kh##0 = 0.0f, c##kh##1 = 0.0f, c##kh##2 = 0.0f;
#define ET_ROLES(kh, unused) float x##kh##0, x##kh##1, x##kh##2;
#define ET_LOAD_TAP(kh, kw) c##kh##kw = dw[(kh * 3 + kw) * channels];
#define ET_LOAD_ROW(kh, unused) ET_LOAD_TAP(kh, 0) ET_LOAD_TAP(kh, 1) ET_LOAD_TAP(kh, 2)
#define ET_STORE_TAP(kh, kw) target[(kh * 3 + kw) * step] = c##kh##kw;
#define ET_STORE_ROW(kh, unused) ET_STORE_TAP(kh, 0) ET_STORE_TAP(kh, 1) ET_STORE_TAP(kh, 2)

/* How many outputs of an axis lie wholly inside, if padding takes at most one tap at either end; else 0. */
static int32_t inside_of(int32_t size, int32_t out_size, int32_t stride, int32_t pad)
{
    const int32_t beyond = (out_size - 1) * stride - pad + 3 - size;
    if (size < 2 || pad > 1 || beyond > 1)
        return 0;
    const int32_t edges = pad + (beyond > 0);
    return out_size > edges ? out_size - edges : 0;
}

static ET_NOINLINE void weight_3x3(const et_conv_shape *shape, et_sink *sink, int32_t inside, const float *x,
                                   const float *dy, float *dw)
{
    float sums[9];
    const bool stores = sink->mode == ET_SINK_STORE;
    const ptrdiff_t step = stores ? shape->channels : 1;
    const ptrdiff_t channels = shape->channels, x_row = shape->width * channels;
    const bool left_edge = shape->pad_left != 0, right_edge = shape->out_width > inside + shape->pad_left;
    const float *x_end = x + channels, *x_first = x, *dy_first = dy;
    for (; x_first != x_end; x_first++, dy_first++, dw++) {
        ET_ALL_ROWS(ET_ZERO, 0)
#if ET_WALK
        if (sink->goes_on) {
            ET_ALL_ROWS(ET_LOAD_ROW, 0)
        }
#endif
        x = x_first;
        dy = dy_first;
        for (int32_t image = shape->batch; image != 0; image--) {
            int32_t top = -shape->pad_top;
            for (int32_t rows = shape->out_height; rows != 0; rows--, top += shape->stride_h) {
                const float *row = x + top * x_row;
                ET_ALL_ROWS(ET_ROLES, 0)
                if (top < 0)
                    ET_OUTPUT_ROW(ET_LOW_ROWS)
                else if (top + 3 > shape->height)
                    ET_OUTPUT_ROW(ET_HIGH_ROWS)
                else
                    ET_OUTPUT_ROW(ET_ALL_ROWS)
            }
            x += shape->height * x_row;
        }
        float *target = stores ? dw : sums;
        ET_ALL_ROWS(ET_STORE_ROW, 0)
        if (!stores)
            et_sink_take(sink, 9, 1, sums, 1, dw, channels);
    }
}

/* Whether weight_3x3 can do it: then the outputs per row that meet three kernel columns, else 0. */
static int32_t inside_3x3(const et_conv_shape *shape)
{
    if (shape->kernel_h != 3 || shape->kernel_w != 3 || shape->dilation_h != 1 || shape->dilation_w != 1)
        return 0;
    if (shape->stride_w != 1 || inside_of(shape->height, shape->out_height, shape->stride_h, shape->pad_top) == 0)
        return 0;
    return inside_of(shape->width, shape->out_width, 1, shape->pad_left);
}

#endif

#if ET_LANES == 1 && !ET_SMALL_TILES && ET_FORM_DEPTHWISE_WEIGHTS
#define ET_TAPS_LOAD(t, j)
#define ET_TAPS_FACTOR(t, j) x##t[j]
#define ET_TAPS_FIVES false
#define ET_TAPS_UPDATE 1
#include "et_row_taps.inc"

ET_DEFINE_ROW_TAPS(row_taps_2, ET_PIXELS_2, ET_COLUMNS_4, 4, ET_TAPS_ALL_INSIDE)
ET_DEFINE_ROW_TAPS(row_taps_3, ET_PIXELS_3, ET_COLUMNS_4, 4, ET_TAPS_ALL_INSIDE)

#if ET_FORM_DEPTHWISE_ROLLS || ET_FORM_DEPTHWISE_STRIDES
/* Where outputs are as far apart as taps, or twice as far, what one tap meets another one meets in the next output: it
 * stays in registers, which take turns in being first, second and third: r<role>_<channel>. */
#define ET_ROLL_DECLARE(role, j) float r##role##_##j;
#define ET_ROLL_BEGIN(t, j) r##t##_##j = (x + (at + t * x_tap))[j];
#define ET_ROLL_LOAD_1(role, j) r##role##_##j = x1[j];
#define ET_ROLL_LOAD_2(role, j) r##role##_##j = x2[j];
#define ET_ROLL_NEXT(t, role)              \
    {                                      \
        ET_COLUMNS_4(ET_ROLL_LOAD_##t, role) \
        x##t += x_step;                    \
    }
#define ET_ROLL_ADD(t, role, j) c##t##_##j = et_madd(r##role##_##j, d##j, c##t##_##j);
#define ET_ROLL_TAP(t, role) ET_ROLL_ADD(t, role, 0) ET_ROLL_ADD(t, role, 1) ET_ROLL_ADD(t, role, 2) ET_ROLL_ADD(t, role, 3)

/* An output that meets what is in these roles; leaves after the last. */
#define ET_ROLL_OUTPUT(COLUMNS, ...)     \
    {                                    \
        COLUMNS(ET_TAPS_GRADIENT, 0)     \
        dy += dy_step;                   \
        ET_ROLL_TAPS(__VA_ARGS__)        \
        ET_BARRIER();                    \
        if (dy == end)                   \
            break;                       \
    }
#define ET_ROLL_TAPS(first, second, third) ET_ROLL_TAP(0, first) ET_ROLL_TAP(1, second) ET_ROLL_TAP(2, third)
#define ET_ROLL_INSIDE_1(TAPS, COLUMNS)                   \
    const float *const end = dy + over->dy_inside;        \
    const float *x2 = x + (at + 2 * x_tap);               \
    COLUMNS(ET_ROLL_DECLARE, 0)                           \
    COLUMNS(ET_ROLL_DECLARE, 1)                           \
    COLUMNS(ET_ROLL_DECLARE, 2)                           \
    COLUMNS(ET_ROLL_BEGIN, 0)                             \
    COLUMNS(ET_ROLL_BEGIN, 1)                             \
    for (;;) {                                            \
        ET_ROLL_NEXT(2, 2)                                \
        ET_ROLL_OUTPUT(COLUMNS, 0, 1, 2)                  \
        ET_ROLL_NEXT(2, 0)                                \
        ET_ROLL_OUTPUT(COLUMNS, 1, 2, 0)                  \
        ET_ROLL_NEXT(2, 1)                                \
        ET_ROLL_OUTPUT(COLUMNS, 2, 0, 1)                  \
    }
#define ET_ROLL_INSIDE_2(TAPS, COLUMNS)                   \
    const float *const end = dy + over->dy_inside;        \
    const float *x1 = x + (at + x_tap);                   \
    const float *x2 = x + (at + 2 * x_tap);               \
    COLUMNS(ET_ROLL_DECLARE, 0)                           \
    COLUMNS(ET_ROLL_DECLARE, 1)                           \
    COLUMNS(ET_ROLL_DECLARE, 2)                           \
    COLUMNS(ET_ROLL_BEGIN, 0)                             \
    for (;;) {                                            \
        ET_ROLL_NEXT(1, 1)                                \
        ET_ROLL_NEXT(2, 2)                                \
        ET_ROLL_OUTPUT(COLUMNS, 0, 1, 2)                  \
        ET_ROLL_NEXT(1, 1)                                \
        ET_ROLL_NEXT(2, 0)                                \
        ET_ROLL_OUTPUT(COLUMNS, 2, 1, 0)                  \
    }

#if ET_FORM_DEPTHWISE_ROLLS
ET_DEFINE_ROW_TAPS(rolled_1, ET_PIXELS_3, ET_COLUMNS_4, 4, ET_ROLL_INSIDE_1)
#endif
#if ET_FORM_DEPTHWISE_STRIDES
ET_DEFINE_ROW_TAPS(rolled_2, ET_PIXELS_3, ET_COLUMNS_4, 4, ET_ROLL_INSIDE_2)
#endif
#endif

static row_taps_function *row_taps_for(const et_conv_shape *shape, int32_t count)
{
    if (count == 2)
        return row_taps_2;
#if ET_FORM_DEPTHWISE_ROLLS
    if (shape->stride_w == shape->dilation_w)
        return rolled_1;
#endif
#if ET_FORM_DEPTHWISE_STRIDES
    if (shape->stride_w == 2 * shape->dilation_w)
        return rolled_2;
#endif
    (void)shape;
    return row_taps_3;
}

/* All taps of the channels down to a multiple of four; gives how many. dw: of the first tap. */
static int32_t weight_row_taps(const et_conv_shape *shape, et_sink *sink, const float *x, const float *dy, float *dw)
{
    const int32_t channels = shape->channels & ~3;
    float sums[ET_TAPS_MOST * 4];
    if (shape->kernel_w == 1)
        return 0;
    for (int32_t kh = 0; kh < shape->kernel_h; kh++)
        for (int32_t kw = 0, count; kw < shape->kernel_w; kw += count, dw += count * shape->channels) {
            count = row_taps_count(shape->kernel_w - kw);
            if (!et_share_has(kh * shape->kernel_w + kw))
                continue;
            row_taps over = row_taps_of(shape, kh, kw, count);
            over.updates = sink->mode == ET_SINK_UPDATE && et_sink_is_direct(sink);
            over.back = sink->back;
            over.pitch = shape->channels;
            ET_TAPS_WALK(over, sink)
            row_taps_function *const sum = row_taps_for(shape, count);
            for (int32_t c = 0; c < channels; c += 4) {
                ET_TAPS_BEGIN(sink, count, 4, sums, dw + c, shape->channels)
                if (!sum(&over, x + c, dy + over.dy_first + c, sums, dw + c))
                    et_sink_take(sink, count, 4, sums, 4, dw + c, shape->channels);
            }
        }
    return channels;
}
#else
static int32_t weight_row_taps(const et_conv_shape *shape, et_sink *sink, const float *x, const float *dy, float *dw)
{
    (void)shape, (void)sink, (void)x, (void)dy, (void)dw;
    return 0;
}
#endif

static void weight_taps(const et_conv_shape *shape, et_sink *sink, const float *x, const float *dy, float *dw)
{
#if ET_LANES == 1 && !ET_SMALL_TILES
    const int32_t inside = inside_3x3(shape);
    if (inside != 0 && !et_share_has(0))
        return;
    if (inside != 0) {
        weight_3x3(shape, sink, inside, x, dy, dw);
        return;
    }
#endif
    const int32_t done = weight_row_taps(shape, sink, x, dy, dw), left = shape->channels - done;
    x += done;
    dy += done;
    dw += done;
    for (int32_t kh = 0; left != 0 && kh < shape->kernel_h; kh++)
        for (int32_t kw = 0; kw < shape->kernel_w; kw++) {
            const et_reach reach = et_reach_of(shape, kh, kw);
            if (et_share_has(kh * shape->kernel_w + kw))
                weight_tap(&reach, sink, left, x + reach.x_first, dy + reach.dy_first, dw);
            dw += shape->channels;
        }
}

et_status et_depthwise_grad_weight_f32(const et_conv_shape *shape, const float *x, const float *dy, float *dw,
                                       int32_t accumulate)
{
    et_sink sink = et_sink_gradient(accumulate);
    weight_taps(shape, &sink, x, dy, dw);
    return ET_OK;
}

et_status et_depthwise_update_f32(const et_conv_shape *shape, float learning_rate, float weight_decay, const float *x,
                                  const float *dy, float *w)
{
    et_sink sink = et_sink_update(learning_rate, weight_decay);
    weight_taps(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}

et_status et_depthwise_momentum_f32(const et_conv_shape *shape, float learning_rate, float weight_decay, float momentum,
                              bool nesterov, const float *x, const float *dy, float *w, float *velocity)
{
    et_sink sink = et_sink_momentum(learning_rate, weight_decay, momentum, nesterov, w, velocity);
    weight_taps(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}

et_status et_depthwise_adam_f32(const et_conv_shape *shape, float learning_rate, const et_adam *options, const float *powers,
                          const float *x, const float *dy, float *w, float *m, float *v)
{
    et_sink sink = et_sink_adam(learning_rate, options, powers, w, m, v);
    weight_taps(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}
