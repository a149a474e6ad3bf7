/* Batch normalization with running statistics as y = a * x + b, one a and b per channel; float32 [channels] each.
 *
 *   a = gamma / sqrt(var + epsilon),  b = madd(-mean, a, beta)
 *   dgamma = 1 / sqrt(var + epsilon) * madd(-mean, db, da); dgamma may be da
 */
#ifndef ET_BATCH_NORM_AFFINE_H
#define ET_BATCH_NORM_AFFINE_H

#include "et_base.h"

ET_CHECKED et_status et_batch_norm_affine_f32(
    size_t channels, float epsilon, const float *gamma, const float *beta, const float *mean, const float *var,
    float *a, float *b);

ET_CHECKED et_status et_batch_norm_affine_grad_f32(
    size_t channels, float epsilon, const float *da, const float *db, const float *mean, const float *var,
    float *dgamma);

#endif
