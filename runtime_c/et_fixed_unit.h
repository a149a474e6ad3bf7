/* What follows a convolution of int8 mantissas, on integers: max pooling, y = a * sum + b per channel, ReLU, and int8
 * mantissas for the next layer; and its gradient. In dynamic fixed point (et_fixed.h), scales are powers of two.
 *
 * Forward
 *   winner   of each window: the largest sum where a[c] >= 0, else the smallest; the first of equal ones, row by row
 *   z        = (winner + half) >> s, s the least for which no |winner| has more than 14 bits after it
 *   m        int16 mantissas of a * factor (et_fixed_nearest_i16), the scale of the sums being factor * 2^e; without a:
 *            factor * 2^14, at most 32767
 *   t        = ((z * m[c]) >> s2) + b[c] in units of the product; s2 > 0 only where b would not fit into 29 bits
 *   code     = t / 2^s3 rounded to 7 bits of the largest, within [-127, 127]; t < 0 counts as 0 with ReLU
 *            with levels: t cut to at most 22 bits below 1.0, then (t * levels + half) / 1.0, rounded down; 0 for t <= 0 and
 *            levels for t >= 1.0: there the gradient stops
 * Backward, of the winners for which ReLU lets the gradient through
 *   z'       = (d + half) >> s', to 14 bits like z
 *   da[c]    = float32(sum of z' * z) * (scale of z' * scale of z);  db[c] = float32(sum of z') * scale of z'
 *   g        = z' * m[c] rounded to 7 bits of the largest, at the place of the winner; 0 elsewhere; here m is of a times
 *            the factor of the scale of d
 *            with gradient_levels: odd codes 2 * ((place + levels * 2^15 + h) >> 16) - levels, where place = floor(value * f /
 *            2^32), f = levels * 2^47 / largest value, cut, both values shifted to 31 bits, and h half i % 2 of random number
 *            i / 2
 * Training rounds stochastically: floor(value / 2^shift + u), u from byte i % 4 of random number i / 4 of (seed,
 * step, stream), i the row-major index in codes: where 8 bits or more are dropped, u = (2 byte + 1) / 512 (byte / 256
 * where exactly 8 are); where less, its upper bits. Inference rounds to the nearest, ties to even.
 *
 *   sums, d        int32 [batch][height][width][channels], and [batch][out_height][out_width][channels]; 2^31 - 1 at most
 *   sums_scale ... float32, one each; NaN where something was not finite: then codes are 0 and the new scale is NaN too
 *   a, b           float32 [channels] or NULL
 *   codes          int8 [batch][out_height][out_width][channels]
 *   place          uint8, like codes: the tap that won, 255 where ReLU stops the gradient
 *   kept           int16, like codes: z
 *   g              int8, like sums
 *   scratch        et_fixed_unit_scratch_bytes(shape), aligned to 4
 */
#ifndef ET_FIXED_UNIT_H
#define ET_FIXED_UNIT_H

#include "et_base.h"

/* Windows lie side by side: the kernel is at most as large as the stride, and inside the image. */
typedef struct {
    int32_t batch;
    int32_t height;
    int32_t width;
    int32_t channels;
    int32_t out_height;
    int32_t out_width;
    int32_t stride_h;
    int32_t stride_w;
    int32_t taps;              /* at most 255 */
    const int32_t *tap_offset; /* elements from the first of a window to each of them */
    int32_t relu;              /* 0 or 1 */
    int32_t levels;            /* of codes for [0, 1], at most 127; 0 for dynamic fixed point */
    int32_t gradient_levels;   /* of codes of the gradient, odd, at most 127; 0 for dynamic fixed point */
    uint32_t stream;
} et_fixed_unit;

static inline size_t et_fixed_unit_scratch_bytes(const et_fixed_unit *shape)
{
    return 4u * (size_t)shape->channels * (size_t)(shape->batch * shape->out_height * shape->out_width + 2);
}

ET_CHECKED et_status et_fixed_unit_i8(
    const et_fixed_unit *shape, const int32_t *sums, const float *sums_scale, const float *a, const float *b,
    void *scratch, int8_t *codes, float *scale);

/* kept and kept_scale may be NULL. */
ET_CHECKED et_status et_fixed_unit_train_i8(
    const et_fixed_unit *shape, uint32_t seed, uint32_t step, const int32_t *sums, const float *sums_scale,
    const float *a, const float *b, void *scratch, int8_t *codes, float *scale, uint8_t *place, int16_t *kept,
    float *kept_scale);

/* a, kept, kept_scale and da go together, and may be NULL. */
ET_CHECKED et_status et_fixed_unit_grad_i8(
    const et_fixed_unit *shape, uint32_t seed, uint32_t step, const int32_t *d, const float *d_scale, const float *a,
    const uint8_t *place, const int16_t *kept, const float *kept_scale, void *scratch, int8_t *g, float *g_scale,
    float *db, float *da);

#endif
