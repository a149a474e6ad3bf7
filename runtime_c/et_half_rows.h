/* What the layers on binary16 and bfloat16 share: rows of operands become float32 in scratch, rows of sums results.
 * Not for callers. Formats and rounding: et_half.h. Sizes in elements; what is written does not overlap what is read.
 */
#ifndef ET_HALF_ROWS_H
#define ET_HALF_ROWS_H

#include "et_base.h"

typedef struct {
    int32_t bfloat16; /* the format: 0 binary16, 1 bfloat16 */
    int32_t native;   /* 1: sums of binary16 */
    int32_t stored;   /* 1: w is in the format */
    int32_t block;
    float unscale; /* one over the scale of the gradients, a power of two */
} et_half_form;

/* rows x columns numbers, `pitch` apart in the source, side by side in the target. */
void et_half_decode(const et_half_form *form, ptrdiff_t rows, ptrdiff_t columns, const uint16_t *source,
                    ptrdiff_t pitch, float *target);

/* The same of weights, from element `first` on: rounded, or already in the format. */
void et_half_decode_weights(const et_half_form *form, ptrdiff_t rows, ptrdiff_t columns, const void *w,
                            ptrdiff_t first, ptrdiff_t pitch, float *target);

/* rows x columns sums, side by side, rounded into a target of rows `pitch` apart. */
void et_half_encode(const et_half_form *form, ptrdiff_t rows, ptrdiff_t columns, const float *sums, uint16_t *target,
                    ptrdiff_t pitch);

/* The same times `unscale`, as float32. */
void et_half_unscale(const et_half_form *form, ptrdiff_t rows, ptrdiff_t columns, const float *sums, float *target,
                     ptrdiff_t pitch);

/* What becomes of the sums of a gradient of weights: kept, or a step of gradient descent. */
typedef struct {
    bool update;
    float back; /* minus the learning rate */
    float weight_decay;
    bool failed; /* set where a gradient is not finite; its weight then stays as it was */
} et_half_sink;

/* One row of sums, which is rounded in place. */
void et_half_take(const et_half_form *form, et_half_sink *sink, ptrdiff_t columns, float *sums, float *target);

#endif
