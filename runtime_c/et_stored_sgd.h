/* Plain SGD on weights that are stored in 16 bits, and their values as float32. Formats: et_stored.h.
 *
 * For each element, w the value of the stored number:
 *   g = gradient, or madd(weight_decay, w, gradient) unless weight_decay is 0
 *   v = madd(-(learning_rate * rate_scale), g, w)
 *   v = low where v < low, high where v > high           comparisons: NaN stays
 *   stored_next = v rounded stochastically, with the random number of (seed, step, stream, row-major index)
 *
 *   stored, stored_next   [count], row-major; the same memory, or apart
 *   gradient              float32 [count]
 * The whole gradient is checked first (N8): if an element is not finite, ET_NONFINITE_GRADIENT and nothing has changed.
 *
 * With `lines`, rows and columns (the last axis) draw instead of elements:
 *   r(i) = random number of (seed, step, stream, i)
 *   the random number of row i, column j is r(i) xor r(rows + j)
 */
#ifndef ET_STORED_SGD_H
#define ET_STORED_SGD_H

#include "et_stored.h"

typedef struct {
    int32_t exponent; /* of fixed point */
    float rate_scale;
    float weight_decay;
    float low;
    float high;
    uint32_t stream;
    uint32_t lines;   /* 0: each element draws for itself, and the two below are of no interest */
    uint32_t rows;
    uint32_t columns;
} et_stored_sgd;

/* What multiplies the gradient. */
static inline float et_stored_rate(const et_stored_sgd *options, float learning_rate)
{
    return -(learning_rate * options->rate_scale);
}

/* The number that an element is rounded with. */
static inline uint32_t et_stored_draw(const et_stored_sgd *options, et_random_key_t key, uint32_t index)
{
    if (options->lines == 0u)
        return et_random_at(key, index);
    return et_random_at(key, index / options->columns)
           ^ et_random_at(key, options->rows + index % options->columns);
}

/* v for a weight of value w; back = et_stored_rate(). */
static inline float et_stored_step(const et_stored_sgd *options, float back, float w, float gradient)
{
    const float g = options->weight_decay != 0.0f ? et_madd(options->weight_decay, w, gradient) : gradient;
    const float v = et_madd(back, g, w);
    return v < options->low ? options->low : v > options->high ? options->high : v;
}

ET_CHECKED et_status et_sgd_fixed16(
    size_t count, const et_stored_sgd *options, float learning_rate, uint32_t seed, uint32_t step,
    const float *gradient, const int16_t *stored, int16_t *stored_next);

ET_CHECKED et_status et_sgd_fp16(
    size_t count, const et_stored_sgd *options, float learning_rate, uint32_t seed, uint32_t step,
    const float *gradient, const uint16_t *stored, uint16_t *stored_next);

ET_CHECKED et_status et_sgd_bf16(
    size_t count, const et_stored_sgd *options, float learning_rate, uint32_t seed, uint32_t step,
    const float *gradient, const uint16_t *stored, uint16_t *stored_next);

/* y: the values, exact */
ET_CHECKED et_status et_decode_fp16(size_t count, const uint16_t *stored, float *y);
ET_CHECKED et_status et_decode_bf16(size_t count, const uint16_t *stored, float *y);
ET_CHECKED et_status et_decode_fixed16(size_t count, int32_t exponent, const int16_t *stored, float *y);

#endif
