#include "et_dense_grad.h"

#include "et_conv_grad_input.h"
#include "et_conv_grad_weight.h"
#include "et_share.h"
#include "et_sink.h"
#include "et_tile.h"

/* The layer as a 1x1 convolution over a row of `batch` pixels. */
static et_conv_shape as_convolution(const et_dense_shape *shape, const et_segment *one, const et_segment *all)
{
    const et_conv_shape convolution = {
        .batch = 1,
        .height = 1,
        .width = shape->batch,
        .channels = shape->inputs,
        .out_height = 1,
        .out_width = shape->batch,
        .out_channels = shape->outputs,
        .kernel_h = 1,
        .kernel_w = 1,
        .stride_h = 1,
        .stride_w = 1,
        .dilation_h = 1,
        .dilation_w = 1,
        .groups = 1,
        .grad_row_count = 1,
        .grad_column_count = 1,
        .grad_rows = one,
        .grad_columns = all,
    };
    return convolution;
}

/* A run of `count` results that meet one tap. */
static et_segment run_of(int32_t count)
{
    const et_segment segment = {
        .step = 1,
        .count = (int16_t)count,
        .tap_step = 1,
        .taps = 1,
        .source_step = 1,
        .source_tap_step = -1,
    };
    return segment;
}

/* One output and one sample: a way of their own, so short that it should not pay for the frame of all others. */
#define ET_OF_ONE (ET_FORM_DOT && ET_LANES == 1 && !ET_SMALL_TILES)
#if ET_OF_ONE
#define ET_APART ET_NOINLINE
#else
#define ET_APART
#endif

#if ET_LANES == 1

/* One sample: the dy of a panel stay in registers while the rows of w go by, and dx collects the panels in order. */
#define ET_KEEP(m, j) const float g##j = dy[j];
#define ET_TERM(m, j) sum##m = et_madd(g##j, w##m[j], sum##m);
#define ET_ROW(m, COLUMNS)             \
    const float *w##m = w + m * pitch; \
    float sum##m = dx[m];              \
    COLUMNS(ET_TERM, m)                \
    dx[m] = sum##m;

/* Two rows at a time: their sums do not wait for each other. */
#define ET_DEFINE_ROWS(NAME, COLUMNS)                                                                         \
    static ET_NOINLINE void NAME(int32_t inputs, ptrdiff_t pitch, const float *dy, const float *w, float *dx) \
    {                                                                                                         \
        COLUMNS(ET_KEEP, 0)                                                                                   \
        for (const float *end = dx + (inputs & ~1); dx != end; dx += 2, w += 2 * pitch) {                     \
            ET_PIXELS_2(ET_ROW, COLUMNS)                                                                      \
        }                                                                                                     \
        if (inputs & 1) {                                                                                     \
            ET_PIXELS_1(ET_ROW, COLUMNS)                                                                      \
        }                                                                                                     \
    }

#if !ET_SMALL_TILES
#if !ET_SMALL_CODE
ET_DEFINE_ROWS(rows_16, ET_COLUMNS_16)
#endif
ET_DEFINE_ROWS(rows_8, ET_COLUMNS_8)
#if ET_FORM_TEN
ET_DEFINE_ROWS(rows_10, ET_COLUMNS_10)
#endif
#endif
ET_DEFINE_ROWS(rows_2, ET_COLUMNS_2)
ET_DEFINE_ROWS(rows_1, ET_COLUMNS_1)

#if ET_OF_ONE
#define ET_SCALE(m, j) dx[j] = et_madd(g, w[j], 0.0f);

/* Of one output. */
static ET_NOINLINE et_status grad_input_of_one(int32_t inputs, float g, const float *w, float *dx)
{
    for (const float *end = dx + (inputs & ~15); dx != end; dx += 16, w += 16) {
        ET_COLUMNS_16(ET_SCALE, 0)
    }
    for (const float *end = dx + (inputs & 15); dx != end; dx++, w++)
        *dx = et_madd(g, *w, 0.0f);
    return ET_OK;
}
#endif

/* The columns of one panel. */
static void grad_input_panel(int32_t inputs, int32_t pitch, const float *dy, const float *w, float *dx)
{
    int32_t column = 0;
#if !ET_SMALL_TILES
#if !ET_SMALL_CODE
    if (pitch == ET_PANEL) {
        rows_16(inputs, ET_PANEL, dy, w, dx);
        return;
    }
#endif
#if ET_FORM_TEN
    if (pitch == 10) {
        rows_10(inputs, 10, dy, w, dx);
        return;
    }
#endif
    for (; pitch - column >= 8; column += 8)
        rows_8(inputs, pitch, dy + column, w + column, dx);
#endif
    for (; pitch - column >= 2; column += 2)
        rows_2(inputs, pitch, dy + column, w + column, dx);
    if (column < pitch)
        rows_1(inputs, pitch, dy + column, w + column, dx);
}

static void grad_input_row(const et_dense_shape *shape, const float *dy, const float *w, float *dx)
{
    for (int32_t k = 0; k < shape->inputs; k++)
        dx[k] = 0.0f;
    for (int32_t panel = 0; panel < shape->outputs; panel += ET_PANEL) {
        const int32_t left = shape->outputs - panel, pitch = left < ET_PANEL ? left : ET_PANEL;
        grad_input_panel(shape->inputs, pitch, dy + panel, w, dx);
        w += (ptrdiff_t)shape->inputs * ET_PANEL;
    }
}

#endif

static ET_APART et_status grad_input(const et_dense_shape *shape, const float *dy, const float *w, float *dx)
{
    if (shape->batch > INT16_MAX)
        return ET_BAD_ARGUMENT;
#if ET_LANES == 1
    if (shape->batch == 1) {
        if (et_share_has(0))
            grad_input_row(shape, dy, w, dx);
        return ET_OK;
    }
#endif
    const et_segment one = run_of(1), all = run_of(shape->batch);
    const et_conv_shape convolution = as_convolution(shape, &one, &all);
    return et_conv_grad_input_f32(&convolution, dy, w, dx);
}

et_status et_dense_grad_input_f32(const et_dense_shape *shape, const float *dy, const float *w, float *dx)
{
#if ET_OF_ONE
    if (shape->batch == 1 && shape->outputs == 1)
        return et_share_has(0) ? grad_input_of_one(shape->inputs, *dy, w, dx) : ET_OK;
#endif
    return grad_input(shape, dy, w, dx);
}

/* One sample: every weight has one product, madd(x, dy, 0), which is +0 where the product is -0. A panel's dy stay in
 * registers while x goes by. With `back`, w = madd(back, product, w) in its place: for products that are all finite. */
#if ET_LANES == 1

#define ET_LOAD(m, j) const float b##j = dy[j];
#define ET_PRODUCT(m, j) w[j] = et_madd(a, b##j, 0.0f);
#define ET_UPDATE(m, j)                                     \
    w[j] = et_madd(rate, et_madd(a, b##j, 0.0f), w[j]);     \
    if (j % 8 == 7) /* more products at once would spill */ \
        ET_BARRIER();

#define ET_DEFINE_OUTER(NAME, COLUMNS)                                                                       \
    static ET_NOINLINE void NAME(int32_t inputs, ptrdiff_t pitch, const float *x, const float *dy, float *w, \
                                 const float *back)                                                          \
    {                                                                                                        \
        COLUMNS(ET_LOAD, 0)                                                                                  \
        if (back != NULL) {                                                                                  \
            const float rate = *back;                                                                        \
            for (const float *end = x + inputs; x != end; x++, w += pitch) {                                 \
                const float a = *x;                                                                          \
                COLUMNS(ET_UPDATE, 0)                                                                        \
            }                                                                                                \
        } else {                                                                                             \
            for (const float *end = x + inputs; x != end; x++, w += pitch) {                                 \
                const float a = *x;                                                                          \
                COLUMNS(ET_PRODUCT, 0)                                                                       \
            }                                                                                                \
        }                                                                                                    \
    }

#if !ET_SMALL_TILES
#if !ET_SMALL_CODE
ET_DEFINE_OUTER(outer_16, ET_COLUMNS_16)
#endif
ET_DEFINE_OUTER(outer_8, ET_COLUMNS_8)
#if ET_FORM_TEN
ET_DEFINE_OUTER(outer_10, ET_COLUMNS_10)
#endif
#endif
ET_DEFINE_OUTER(outer_2, ET_COLUMNS_2)
ET_DEFINE_OUTER(outer_1, ET_COLUMNS_1)

#if ET_OF_ONE
#define ET_PRODUCT_ONE(m, j) const float product##j = et_madd(x[j], g, 0.0f);
#define ET_UPDATE_ONE(m, j) w[j] = et_madd(back, product##j, w[j]);
#define ET_WATCH_PAIR(i, j) watch = et_madd(product##i, product##j, watch);

/* The update of one output's weights from products that may not be finite. */
static ET_NOINLINE et_status update_with_care(int32_t inputs, const float *x, float g, float *w, float back)
{
    et_sink sink = et_sink_update(-back, 0.0f);
    for (; inputs != 0; inputs--, x++, w++) {
        ET_PRODUCT_ONE(0, 0)
        et_sink_take(&sink, 1, 1, &product0, 1, w, 1);
    }
    return et_sink_status(&sink);
}

/* The same, 16 at a time. A product that is not finite is not so times anything, plus anything: one multiply-add looks
 * at two of them. */
static ET_NOINLINE et_status update_of_one(int32_t inputs, const float *x, float g, float *w, float back)
{
    for (; inputs >= 16; inputs -= 16, x += 16, w += 16) {
        ET_COLUMNS_16(ET_PRODUCT_ONE, 0)
        float watch = 0.0f;
        ET_WATCH_PAIR(0, 1)
        ET_WATCH_PAIR(2, 3)
        ET_WATCH_PAIR(4, 5)
        ET_WATCH_PAIR(6, 7)
        ET_WATCH_PAIR(8, 9)
        ET_WATCH_PAIR(10, 11)
        ET_WATCH_PAIR(12, 13)
        ET_WATCH_PAIR(14, 15)
        if (!et_is_finite_f32(watch))
            break;
        ET_COLUMNS_16(ET_UPDATE_ONE, 0)
    }
    return inputs != 0 ? update_with_care(inputs, x, g, w, back) : ET_OK;
}
#endif

static void outer_panel(int32_t inputs, int32_t pitch, const float *x, const float *dy, float *w, const float *back)
{
    int32_t column = 0;
#if !ET_SMALL_TILES
#if !ET_SMALL_CODE
    if (pitch == ET_PANEL) {
        outer_16(inputs, ET_PANEL, x, dy, w, back);
        return;
    }
#endif
#if ET_FORM_TEN
    if (pitch == 10) {
        outer_10(inputs, 10, x, dy, w, back);
        return;
    }
#endif
    for (; pitch - column >= 8; column += 8)
        outer_8(inputs, pitch, x, dy + column, w + column, back);
#endif
    for (; pitch - column >= 2; column += 2)
        outer_2(inputs, pitch, x, dy + column, w + column, back);
    if (column < pitch)
        outer_1(inputs, pitch, x, dy + column, w + column, back);
}

#else

static void outer_panel(int32_t inputs, int32_t pitch, const float *x, const float *dy, float *w, const float *back)
{
    const et_mask mask = et_mask_first(pitch);
    const et_lanes b = et_lanes_load(dy, mask), zero = et_lanes_set(0.0f, mask);
    const et_factor rate = et_factor_of(back != NULL ? *back : 0.0f, mask);
    for (int32_t k = 0; k < inputs; k++, w += pitch) {
        et_lanes result = et_lanes_scale(et_factor_of(x[k], mask), b, zero, mask);
        if (back != NULL)
            result = et_lanes_scale(rate, result, et_lanes_load(w, mask), mask);
        et_lanes_store(w, mask, result);
    }
}

#endif

#if ET_LANES <= 4 && !ET_SMALL_CODE
#define ET_SKIPS_ZEROS 1
#define ET_LOOKED_AT 5 /* every 5th x: an odd number, so that all columns of an image have their turn */

static inline bool is_zero(float x)
{
    return et_bits_f32(x) << 1 == 0u;
}

/* Whether rows of weights may be left out where x is 0, and are so many that it pays, as in pictures with an empty
 * background. Their products are +0, times a finite rate with a minus sign -0, and -0 changes nothing that it is added to. */
static bool zeros_are_skipped(const et_dense_shape *shape, float back, const float *x)
{
    const uint32_t rate = et_bits_f32(back);
    if (rate < 0x80000000u || rate >= 0xFF800000u || shape->outputs < ET_PANEL)
        return false;
    int32_t balance = 0;
    for (int32_t left = shape->inputs; left > 0; left -= ET_LOOKED_AT, x += ET_LOOKED_AT)
        balance += is_zero(*x) ? 1 : -1;
    return balance > 0;
}

/* The update of all rows whose x is not 0, run by run. */
static ET_NOINLINE void update_runs(const et_dense_shape *shape, float back, const float *x, const float *dy, float *w)
{
    const float *const end = x + shape->inputs;
    for (const float *first = x, *behind; first != end; first = behind) {
        for (behind = first; behind != end && !is_zero(*behind);)
            behind++;
        float *target = w;
        for (int32_t panel = 0; behind != first && panel < shape->outputs; panel += ET_PANEL) {
            const int32_t left = shape->outputs - panel, pitch = left < ET_PANEL ? left : ET_PANEL;
            outer_panel((int32_t)(behind - first), pitch, first, dy + panel, target + (first - x) * pitch, &back);
            target += (ptrdiff_t)shape->inputs * ET_PANEL;
        }
        while (behind != end && is_zero(*behind))
            behind++;
    }
}
#else
#define ET_SKIPS_ZEROS 0
#endif

/* One sample. What outer_panel does not do itself, a sink does row by row. */
static void outer(const et_dense_shape *shape, et_sink *sink, const float *x, const float *dy, float *w)
{
    const size_t inputs = (size_t)shape->inputs, outputs = (size_t)shape->outputs;
    const bool updates = sink->mode == ET_SINK_UPDATE;
    const bool whole = et_sink_is_direct(sink) && (!updates || et_products_finite(inputs, x, outputs, dy));
#if ET_SKIPS_ZEROS
    if (whole && updates && zeros_are_skipped(shape, sink->back, x)) {
        update_runs(shape, sink->back, x, dy, w);
        return;
    }
#endif
    for (int32_t panel = 0; panel < shape->outputs; panel += ET_PANEL) {
        const int32_t pitch = shape->outputs - panel < ET_PANEL ? shape->outputs - panel : ET_PANEL;
        const bool own = et_share_has(panel / ET_PANEL);
        if (own && whole)
            outer_panel(shape->inputs, pitch, x, dy + panel, w, updates ? &sink->back : NULL);
        for (int32_t k = 0; own && !whole && k < shape->inputs; k++) {
            float products[ET_PANEL];
            outer_panel(1, pitch, x + k, dy + panel, products, NULL);
            et_sink_take(sink, 1, pitch, products, pitch, w + (ptrdiff_t)k * pitch, pitch);
        }
        w += (ptrdiff_t)shape->inputs * ET_PANEL;
    }
}

/* More samples are a convolution, unless many dy are zeros. */
#if ET_LANES == 16 && ET_HAS_HALF
#define ET_SPARSE_FORM 1
#include "et_nonzero.h"
#include "et_turn.h"

#include "et_dense_grad_sparse.inc"
#else
#define ET_SPARSE_FORM 0
#define outer_is_sparse(shape, sink, x, dy, w) ((void)(sink), false)
#endif

et_status et_dense_grad_weight_f32(const et_dense_shape *shape, const float *x, const float *dy, float *dw,
                                   int32_t accumulate)
{
    if (ET_SPARSE_FORM && !(ET_WALK && accumulate == 2)) {
        et_sink sink = et_sink_gradient(accumulate);
        if (outer_is_sparse(shape, &sink, x, dy, dw))
            return ET_OK;
    }
    if (shape->batch != 1 || (ET_WALK && accumulate == 2)) {
        const et_conv_shape convolution = as_convolution(shape, NULL, NULL);
        return et_conv_grad_weight_f32(&convolution, x, dy, dw, accumulate);
    }
    et_sink sink = et_sink_gradient(accumulate);
    outer(shape, &sink, x, dy, dw);
    return ET_OK;
}

static ET_APART et_status update(const et_dense_shape *shape, float learning_rate, float weight_decay, const float *x,
                                 const float *dy, float *w)
{
    if (ET_SPARSE_FORM) {
        et_sink sink = et_sink_update(learning_rate, weight_decay);
        if (outer_is_sparse(shape, &sink, x, dy, w))
            return et_sink_status(&sink);
    }
    if (shape->batch != 1) {
        const et_conv_shape convolution = as_convolution(shape, NULL, NULL);
        return et_conv_update_f32(&convolution, learning_rate, weight_decay, x, dy, w);
    }
    et_sink sink = et_sink_update(learning_rate, weight_decay);
    outer(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}

et_status et_dense_update_f32(const et_dense_shape *shape, float learning_rate, float weight_decay, const float *x,
                              const float *dy, float *w)
{
#if ET_OF_ONE
    if (shape->batch == 1 && shape->outputs == 1 && weight_decay == 0.0f)
        return et_share_has(0) ? update_of_one(shape->inputs, x, *dy, w, -learning_rate) : ET_OK;
#endif
    return update(shape, learning_rate, weight_decay, x, dy, w);
}

et_status et_dense_momentum_f32(const et_dense_shape *shape, float learning_rate, float weight_decay, float momentum,
                              bool nesterov, const float *x, const float *dy, float *w, float *velocity)
{
    if (ET_SPARSE_FORM) {
        et_sink sink = et_sink_momentum(learning_rate, weight_decay, momentum, nesterov, w, velocity);
        if (outer_is_sparse(shape, &sink, x, dy, w))
            return et_sink_status(&sink);
    }
    if (shape->batch != 1) {
        const et_conv_shape convolution = as_convolution(shape, NULL, NULL);
        return et_conv_momentum_f32(&convolution, learning_rate, weight_decay, momentum, nesterov, x, dy, w,
                                     velocity);
    }
    et_sink sink = et_sink_momentum(learning_rate, weight_decay, momentum, nesterov, w, velocity);
    outer(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}

et_status et_dense_adam_f32(const et_dense_shape *shape, float learning_rate, const et_adam *options, const float *powers,
                          const float *x, const float *dy, float *w, float *m, float *v)
{
    if (ET_SPARSE_FORM) {
        et_sink sink = et_sink_adam(learning_rate, options, powers, w, m, v);
        if (outer_is_sparse(shape, &sink, x, dy, w))
            return et_sink_status(&sink);
    }
    if (shape->batch != 1) {
        const et_conv_shape convolution = as_convolution(shape, NULL, NULL);
        return et_conv_adam_f32(&convolution, learning_rate, options, powers, x, dy, w, m, v);
    }
    et_sink sink = et_sink_adam(learning_rate, options, powers, w, m, v);
    outer(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}
