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

void et_half_take(const et_half_form *form, et_half_sink *sink, ptrdiff_t columns, float *sums, float *target)
{
    if (form->bfloat16)
        for (ptrdiff_t i = 0; i < columns; i++)
            sums[i] = et_from_bf16(et_to_bf16(sums[i]));
    else
        et_round_fp16_row(columns, sums, sums);
    if (!sink->update) {
        et_half_unscale(form, 1, columns, sums, target, columns);
        return;
    }
    for (ptrdiff_t i = 0; i < columns; i++) {
        const float dw = sums[i] * form->unscale;
        if (et_is_finite_f32(dw)) {
            const float g = sink->weight_decay != 0.0f ? et_madd(sink->weight_decay, target[i], dw) : dw;
            target[i] = et_madd(sink->back, g, target[i]);
        } else {
            sink->failed = true;
        }
    }
}
