/* See et_half_rows.h. */
#include "et_half_rows.h"

#include "et_half.h"

void et_half_decode(const et_half_form *form, ptrdiff_t rows, ptrdiff_t columns, const uint16_t *source,
                    ptrdiff_t pitch, float *target)
{
    if (columns == pitch) { /* then it is one row */
        columns *= rows;
        rows = rows != 0;
    }
    for (; rows != 0; rows--, source += pitch, target += columns)
        if (form->bfloat16)
            for (ptrdiff_t i = 0; i < columns; i++)
                target[i] = et_from_bf16(source[i]);
        else
            et_from_fp16_row(columns, source, target);
}

void et_half_decode_weights(const et_half_form *form, ptrdiff_t rows, ptrdiff_t columns, const void *w,
                            ptrdiff_t first, ptrdiff_t pitch, float *target)
{
    if (form->stored) {
        et_half_decode(form, rows, columns, (const uint16_t *)w + first, pitch, target);
        return;
    }
    for (const float *source = (const float *)w + first; rows != 0; rows--, source += pitch, target += columns)
        if (form->bfloat16)
            for (ptrdiff_t i = 0; i < columns; i++)
                target[i] = et_from_bf16(et_to_bf16(source[i]));
        else
            et_round_fp16_row(columns, source, target);
}

void et_half_encode(const et_half_form *form, ptrdiff_t rows, ptrdiff_t columns, const float *sums, uint16_t *target,
                    ptrdiff_t pitch)
{
    for (; rows != 0; rows--, sums += columns, target += pitch)
        if (form->bfloat16)
            for (ptrdiff_t i = 0; i < columns; i++)
                target[i] = et_to_bf16(sums[i]);
        else
            et_to_fp16_row(columns, 1.0f, sums, target);
}

void et_half_unscale(const et_half_form *form, ptrdiff_t rows, ptrdiff_t columns, const float *sums, float *target,
                     ptrdiff_t pitch)
{
    const float unscale = form->unscale;
    for (; rows != 0; rows--, sums += columns, target += pitch)
        for (ptrdiff_t i = 0; i < columns; i++)
            target[i] = sums[i] * unscale;
}

et_half_sink et_half_sink_gradient(float *dw)
{
    const et_half_sink sink = {.values = dw};
    return sink;
}

et_half_sink et_half_sink_update(float learning_rate, float weight_decay, float *w)
{
    const et_half_sink sink = {.values = w, .update = true, .back = -learning_rate, .weight_decay = weight_decay};
    return sink;
}

et_half_sink et_half_sink_stored(const et_stored_sgd *options, float learning_rate, uint32_t seed, uint32_t step,
                                 uint16_t *stored)
{
    const et_half_sink sink = {
        .stored = stored,
        .update = true,
        .back = et_stored_rate(options, learning_rate),
        .options = options,
        .key = et_random_key(seed, step, options->stream),
    };
    return sink;
}

et_status et_half_sink_status(const et_half_sink *sink)
{
    return sink->failed ? ET_NONFINITE_GRADIENT : ET_OK;
}

void et_half_take(const et_half_form *form, et_half_sink *sink, ptrdiff_t columns, float *sums, ptrdiff_t index)
{
    if (form->bfloat16)
        for (ptrdiff_t i = 0; i < columns; i++)
            sums[i] = et_from_bf16(et_to_bf16(sums[i]));
    else
        et_round_fp16_row(columns, sums, sums);
    et_half_keep(form, sink, columns, sums, index);
}

static void step_values(const et_half_form *form, et_half_sink *sink, ptrdiff_t columns, const float *sums, float *w)
{
    for (ptrdiff_t i = 0; i < columns; i++) {
        const float dw = sums[i] * form->unscale;
        if (et_is_finite_f32(dw)) {
            const float g = sink->weight_decay != 0.0f ? et_madd(sink->weight_decay, w[i], dw) : dw;
            w[i] = et_madd(sink->back, g, w[i]);
        } else {
            sink->failed = true;
        }
    }
}

/* What et_stored_sgd.h does, element by element. */
#define STEP_STORED(LOAD, STORE)                                                                          \
    for (ptrdiff_t i = 0; i < columns; i++) {                                                             \
        const float dw = sums[i] * form->unscale;                                                         \
        if (!et_is_finite_f32(dw)) {                                                                      \
            sink->failed = true;                                                                          \
            continue;                                                                                     \
        }                                                                                                 \
        const uint32_t random = et_stored_draw(sink->options, sink->key, (uint32_t)(index + i));          \
        w[i] = STORE(et_stored_step(sink->options, sink->back, LOAD(w[i]), dw), random);                  \
    }

static void step_stored(const et_half_form *form, et_half_sink *sink, ptrdiff_t columns, const float *sums,
                        ptrdiff_t index)
{
    uint16_t *w = sink->stored + index;
    if (form->bfloat16) {
        STEP_STORED(et_load_bf16, et_store_bf16)
    } else {
        STEP_STORED(et_load_fp16, et_store_fp16)
    }
}

void et_half_keep(const et_half_form *form, et_half_sink *sink, ptrdiff_t columns, const float *sums, ptrdiff_t index)
{
    if (sink->stored != NULL)
        step_stored(form, sink, columns, sums, index);
    else if (sink->update)
        step_values(form, sink, columns, sums, sink->values + index);
    else
        et_half_unscale(form, 1, columns, sums, sink->values + index, columns);
}
