/* See et_batch_norm_affine.h. */
#include "et_batch_norm_affine.h"

#include "et_math.h"

et_status et_batch_norm_affine_f32(
    size_t channels, float epsilon, const float *gamma, const float *beta, const float *mean, const float *var,
    float *a, float *b)
{
    for (size_t c = 0; c < channels; ++c) {
        const float factor = gamma[c] / et_sqrt_f32(var[c] + epsilon);
        a[c] = factor;
        b[c] = et_madd(-mean[c], factor, beta[c]);
    }
    return ET_OK;
}

et_status et_batch_norm_affine_grad_f32(
    size_t channels, float epsilon, const float *da, const float *db, const float *mean, const float *var,
    float *dgamma)
{
    for (size_t c = 0; c < channels; ++c)
        dgamma[c] = et_rsqrt_f32(var[c] + epsilon) * et_madd(-mean[c], db[c], da[c]);
    return ET_OK;
}
