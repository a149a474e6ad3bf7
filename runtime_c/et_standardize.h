/* Weights standardised per output channel, as numbers or as packed signs; gradients clipped per output channel.
 *
 * w, dy, dw float32 [count][channels]: `count` weights for each of `channels` output channels, count >= 1. Sums run
 * over ascending rows, one accumulator per channel, from 0; share = 1 / count, rounded once.
 *
 *   mean      = sum(w) * share
 *   deviation = sqrt(squares * share), squares = madd(w - mean, w - mean, squares) for each row
 *   inverse   = 1 / (deviation + 1e-5)
 *   ws        = (w - mean) * inverse
 */
#ifndef ET_STANDARDIZE_H
#define ET_STANDARDIZE_H

#include "et_base.h"

/* Bytes of scratch, aligned to 4: of the gradient, and of the others. */
static inline size_t et_standardize_weights_grad_scratch_bytes(size_t channels)
{
    return 4 * sizeof(float) * channels;
}

static inline size_t et_standardize_weights_scratch_bytes(size_t channels)
{
    return 2 * sizeof(float) * channels;
}

/* ws. It may not overlap w. */
ET_CHECKED et_status et_standardize_weights_f32(size_t count, size_t channels, const float *w, void *scratch,
    float *ws);

/* signs, and magnitude = sum(|ws|) * share.
 *   w          [taps][inputs][outputs]
 *   signs      uint8 [outputs][taps][ceil(inputs / 8)]: bit j of byte b is 1 where ws >= 0 for input 8 b + j, else 0
 *              (NaN too); bits beyond the last input are 0
 *   magnitude  float32 [outputs]
 */
ET_CHECKED et_status et_binarize_standardized_f32(size_t taps, size_t inputs, size_t outputs, const float *w,
    void *scratch, uint8_t *signs, float *magnitude);

/* dw = madd(-slope, ws, inverse * (g - centre)), where g = dy, or with `clip` g = dy where |ws| <= 1, else +0, and
 * centre = sum(g) * share, slope = (sum of madd(g, ws, sum) * share) / deviation, or 0 unless deviation > 0.
 * dw may be dy.
 */
ET_CHECKED et_status et_standardize_weights_grad_f32(size_t count, size_t channels, bool clip, const float *dy,
    const float *w, void *scratch, float *dw);

/* clipped = g * factor where factor < 1, else g, with factor = limit / norm of each channel and
 *   limit = fraction * max(sqrt(sum of madd(w, w, sum)), 1e-3)
 *   norm  = max(sqrt(sum of madd(g, g, sum)), 1e-12)
 * `scratch` as for weights. clipped may be g.
 */
ET_CHECKED et_status et_clip_by_unit_f32(size_t count, size_t channels, float fraction, const float *w, const float *g,
    void *scratch, float *clipped);

#endif
