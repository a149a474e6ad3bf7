/* What the layers on binary16 and bfloat16 share: rows of operands become float32 in scratch, rows of sums results.
 * Not for callers. Formats and rounding: et_half.h. Sizes in elements; what is written does not overlap what is read.
 */
#ifndef ET_HALF_ROWS_H
#define ET_HALF_ROWS_H

#include "et_stored_sgd.h"

typedef struct {
    int32_t bfloat16; /* the format: 0 binary16, 1 bfloat16 */
    int32_t stored;   /* 1: w is in the format */
    int32_t block;    /* channels that are decoded or packed together */
    float unscale;    /* one over the scale of the gradients, a power of two */
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
    float *values;    /* the gradient, or the weights to update; NULL where those are in the format */
    uint16_t *stored; /* weights to update in the format, rounded stochastically */
    bool update;
    bool failed; /* set where a gradient is not finite; its weight then stays as it was */
    float back;  /* minus the learning rate */
    float weight_decay;
    const et_stored_sgd *options; /* of `stored`, as is the key */
    et_random_key_t key;
} et_half_sink;

et_half_sink et_half_sink_gradient(float *dw);
et_half_sink et_half_sink_update(float learning_rate, float weight_decay, float *w);
et_half_sink et_half_sink_stored(const et_stored_sgd *options, float learning_rate, uint32_t seed, uint32_t step,
                                 uint16_t *stored);

/* Sums that follow each other in row-major order from element `index` on; they are rounded in place. */
void et_half_take(const et_half_form *form, et_half_sink *sink, ptrdiff_t columns, float *sums, ptrdiff_t index);

/* The same of sums that are numbers of the format. */
void et_half_keep(const et_half_form *form, et_half_sink *sink, ptrdiff_t columns, const float *sums, ptrdiff_t index);

/* ET_NONFINITE_GRADIENT if a gradient that was to update a weight was not finite. */
ET_CHECKED et_status et_half_sink_status(const et_half_sink *sink);

#endif
