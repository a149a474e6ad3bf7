#include "et_dense_batch.h"

#include "et_product.h"
#include "et_rectify.h"
#include "et_share.h"
#include "et_sink.h"
#include "et_turn.h"

/* Blocks of sums that are on the stack: forward as [outputs][samples], and of weights as [outputs][inputs]. */
#if ET_LANES >= 8
#define ET_BATCH_OUTPUTS 128
#define ET_BATCH_SAMPLES 32
#define ET_BATCH_ROWS 12
#define ET_BATCH_COLUMNS 256
#else
#define ET_BATCH_OUTPUTS 16
#define ET_BATCH_SAMPLES 16
#define ET_BATCH_ROWS 4
#define ET_BATCH_COLUMNS 64
#endif

/* Sums of 16 samples or fewer become rows of y, and end as `end` says. */
#if ET_LANES == 16
static void finish(et_end end, int32_t samples, int32_t outputs, const float *sums, float *y, ptrdiff_t y_row)
{
    (void)end;
    for (int32_t done = 0; done < outputs; done += ET_PANEL) {
        const et_mask mask = et_mask_first(outputs - done < ET_PANEL ? outputs - done : ET_PANEL);
        __m512 v[16];
        et_turn_16(sums + done * ET_BATCH_SAMPLES, ET_BATCH_SAMPLES, v);
        ET_UNROLL_16
        for (int i = 0; i < 16; i++) {
#if ET_FORM_RECTIFY
            if (end.kind != ET_LINEAR)
                v[i] = et_lanes_relu(v[i], mask);
            if (end.kind == ET_RELU_WITH_CEILING)
                v[i] = et_lanes_at_most(v[i], end.ceiling, mask);
#endif
            if (i < samples)
                et_lanes_store(y + i * y_row + done, mask, v[i]);
        }
    }
}
#else
static void finish(et_end end, int32_t samples, int32_t outputs, const float *sums, float *y, ptrdiff_t y_row)
{
    (void)end;
    for (int32_t n = 0; n < samples; n++)
        for (int32_t j = 0; j < outputs; j++) {
            const float sum = sums[j * ET_BATCH_SAMPLES + n];
#if ET_FORM_RECTIFY
            y[n * y_row + j] = et_rectified(sum, end);
#else
            y[n * y_row + j] = sum;
#endif
        }
}
#endif

/* Up to ET_BATCH_SAMPLES samples. */
static void dense_rows(const et_dense_shape *shape, et_end end, int32_t samples, const float *x, const float *w,
                       const float *bias, float *y)
{
    float sums[ET_BATCH_OUTPUTS * ET_BATCH_SAMPLES];
    const ptrdiff_t inputs = shape->inputs, outputs = shape->outputs;
    for (ptrdiff_t done = 0, count; done < outputs; done += count) {
        count = outputs - done < ET_BATCH_OUTPUTS ? outputs - done : ET_BATCH_OUTPUTS;
        const ptrdiff_t panels = (count + ET_PANEL - 1) / ET_PANEL; /* which are turned as a whole */
        /* With vectors, the product itself begins with the biases. */
        for (ptrdiff_t j = ET_LANES >= 8 ? count : 0; j < panels * ET_PANEL; j++)
            for (int32_t n = 0; n < ET_BATCH_SAMPLES; n++)
                sums[j * ET_BATCH_SAMPLES + n] = bias != NULL && j < count ? bias[done + j] : 0.0f;
        const et_product of = {
            .rows = (int32_t)count,
            .inner = shape->inputs,
            .columns = samples,
            .a_row = inputs,
            .a_step = 1,
            .b_column = inputs,
            .b_step = 1,
            .c_row = ET_BATCH_SAMPLES,
            .a = w + done * inputs,
            .b = x,
            .c = sums,
#if ET_LANES >= 8
            .initial = bias != NULL ? bias + done : NULL,
#else
            .resume = true,
#endif
        };
        et_product_sum(&of);
        for (int32_t n = 0; n < samples; n += ET_PANEL)
            finish(end, samples - n < ET_PANEL ? samples - n : ET_PANEL, (int32_t)count, sums + n,
                   y + n * outputs + done, outputs);
    }
}

static et_status dense(const et_dense_shape *shape, et_end end, const float *x, const float *w, const float *bias, float *y)
{
    const et_share own = et_share_of((shape->batch + ET_PANEL - 1) / ET_PANEL);
    const int32_t behind = own.end * ET_PANEL < shape->batch ? (int32_t)own.end * ET_PANEL : shape->batch;
    for (int32_t first = (int32_t)own.first * ET_PANEL, samples; first < behind; first += samples) {
        samples = behind - first < ET_BATCH_SAMPLES ? behind - first : ET_BATCH_SAMPLES;
        dense_rows(shape, end, samples, x + (ptrdiff_t)first * shape->inputs, w, bias,
                   y + (ptrdiff_t)first * shape->outputs);
    }
    return ET_OK;
}

et_status et_dense_batch_f32(const et_dense_shape *shape, const float *x, const float *w, const float *bias, float *y)
{
    return dense(shape, et_end_linear(), x, w, bias, y);
}

#if ET_FORM_RECTIFY
et_status et_dense_batch_relu_f32(const et_dense_shape *shape, float ceiling, const float *x, const float *w,
                                  const float *bias, float *y)
{
    return dense(shape, et_end_relu(ceiling), x, w, bias, y);
}
#endif

et_status et_dense_batch_grad_input_f32(const et_dense_shape *shape, const float *dy, const float *w, float *dx)
{
    const et_share own = et_share_of(shape->batch);
    const et_product of = {
        .rows = (int32_t)(own.end - own.first),
        .inner = shape->outputs,
        .columns = shape->inputs,
        .a_row = shape->outputs,
        .a_step = 1,
        .b_column = 1,
        .b_step = shape->inputs,
        .c_row = shape->inputs,
        .a = dy + own.first * shape->outputs,
        .b = w,
        .c = dx + own.first * shape->inputs,
    };
    et_product_sum(&of);
    return ET_OK;
}

#if ET_LANES == 16 && ET_HAS_HALF
#include "et_nonzero.h"

#include "et_dense_sparse.inc"

#define ET_UPDATE_VECTOR(m, COLUMNS)                                              \
    _mm512_storeu_ps(to + m * ET_PANEL, et_lanes_madd(_mm512_set1_ps(back), c##m, \
                                                      _mm512_loadu_ps(to + m * ET_PANEL), 0xFFFFu));
ET_DEFINE_ALL_OUTPUTS(update_outputs, ET_UPDATE_VECTOR)

static void sparse_rows(const et_dense_shape *shape, const sparse_block *block, et_sink *sink, const sparse_lists *lists,
                        float *sums, int32_t first, float *w)
{
    const ptrdiff_t columns = (ptrdiff_t)block->vectors * ET_PANEL;
    const int32_t pitch = lists->pitch;
    w += first;
    if (block->columns == columns && is_direct(sink, block)) {
        outputs_function *const *functions = sink->mode == ET_SINK_UPDATE ? update_outputs : store_outputs;
        functions[block->vectors](lists->count, lists->bits, lists->factors, pitch, block->x, block->x_row, sink->back, w,
                                  shape->inputs);
        return;
    }
    for (int32_t j = 0, outputs; j < lists->count; j += outputs, w += (ptrdiff_t)outputs * shape->inputs) {
        outputs = lists->count - j < ET_PANEL ? lists->count - j : ET_PANEL;
        store_outputs[block->vectors](outputs, lists->bits + j, lists->factors + j * pitch, pitch, block->x,
                                      block->x_row, 0.0f, sums, columns);
        et_sink_take(sink, outputs, block->columns, sums, columns, w, shape->inputs);
    }
}

static bool outer_is_sparse(const et_dense_shape *shape, et_sink *sink, const float *x, const float *dy, float *w)
{
    return sparse_outer(shape, sink, x, dy, w, sparse_rows);
}
#else
#define outer_is_sparse(shape, sink, x, dy, w) false
#endif

static void outer(const et_dense_shape *shape, et_sink *sink, const float *x, const float *dy, float *w)
{
    float sums[ET_BATCH_ROWS * ET_BATCH_COLUMNS];
#if ET_WALK
    const bool goes_on = sink->goes_on;
#else
    const bool goes_on = false;
#endif
    if (!goes_on && outer_is_sparse(shape, sink, x, dy, w))
        return;
    const et_share own = et_share_of(shape->outputs);
    for (int32_t column = 0; column < shape->inputs; column += ET_BATCH_COLUMNS) {
        const int32_t left = shape->inputs - column, columns = left < ET_BATCH_COLUMNS ? left : ET_BATCH_COLUMNS;
        for (ptrdiff_t row = own.first, rows; row < own.end; row += rows) {
            rows = own.end - row < ET_BATCH_ROWS ? own.end - row : ET_BATCH_ROWS;
            float *target = w + row * shape->inputs + column;
            const et_product of = {
                .rows = (int32_t)rows,
                .inner = shape->batch,
                .columns = columns,
                .a_row = 1,
                .a_step = shape->outputs,
                .b_column = 1,
                .b_step = shape->inputs,
                .c_row = goes_on ? shape->inputs : ET_BATCH_COLUMNS,
                .a = dy + row,
                .b = x + column,
                .c = goes_on ? target : sums,
                .resume = goes_on,
            };
            et_product_sum(&of);
            if (!goes_on)
                et_sink_take(sink, (int32_t)rows, columns, sums, ET_BATCH_COLUMNS, target, shape->inputs);
        }
    }
}

et_status et_dense_batch_grad_weight_f32(const et_dense_shape *shape, const float *x, const float *dy, float *dw,
                                         int32_t accumulate)
{
    et_sink sink = et_sink_gradient(accumulate);
    outer(shape, &sink, x, dy, dw);
    return ET_OK;
}

et_status et_dense_batch_update_f32(const et_dense_shape *shape, float learning_rate, float weight_decay, const float *x,
                                    const float *dy, float *w)
{
    et_sink sink = et_sink_update(learning_rate, weight_decay);
    outer(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}

et_status et_dense_batch_momentum_f32(const et_dense_shape *shape, float learning_rate, float weight_decay, float momentum,
                                      bool nesterov, const float *x, const float *dy, float *w, float *velocity)
{
    et_sink sink = et_sink_momentum(learning_rate, weight_decay, momentum, nesterov, w, velocity);
    outer(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}

et_status et_dense_batch_adam_f32(const et_dense_shape *shape, float learning_rate, const et_adam *options,
                                  const float *powers, const float *x, const float *dy, float *w, float *m, float *v)
{
    et_sink sink = et_sink_adam(learning_rate, options, powers, w, m, v);
    outer(shape, &sink, x, dy, w);
    return et_sink_status(&sink);
}
