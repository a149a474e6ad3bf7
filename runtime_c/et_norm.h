/* Batch normalization over the channels of float32 [rows][channels]; a row is a pixel of one image.
 *
 * Vectors are float32 [channels]. Sums run over ascending rows, one accumulator per channel, from 0. Where an
 * output may be an input, exactly the same memory is meant; no other overlap is allowed.
 */
#ifndef ET_NORM_H
#define ET_NORM_H

#include "et_base.h"

/* Bytes of scratch, aligned to 4, for et_batch_norm_f32. */
static inline size_t et_batch_norm_scratch_bytes(int32_t channels)
{
    return 2 * sizeof(float) * (size_t)channels;
}

/* y = madd(x, a, madd(-mean, a, beta)) with a = gamma / sqrt(var + epsilon).
 *   scratch  et_batch_norm_scratch_bytes(channels)
 *   y        may be x
 */
ET_CHECKED et_status et_batch_norm_f32(int32_t rows, int32_t channels, float epsilon, const float *x,
    const float *gamma, const float *beta, const float *mean, const float *var, void *scratch, float *y);

/* Statistics of this batch, and x normalised with them.
 *   mean      sum(x) * (1 / rows), by plain additions
 *   inverse   1 / sqrt(squares * (1 / rows) + epsilon), where squares = madd(x - mean, x - mean, squares) for each row
 *   variance  squares * (1 / (rows - 1)): unbiased, for the running statistics
 *   y         madd(x - mean, gamma * inverse, beta); may be x
 * ET_BAD_ARGUMENT for fewer than two rows.
 */
ET_CHECKED et_status et_batch_norm_train_f32(int32_t rows, int32_t channels, float epsilon, const float *x,
    const float *gamma, const float *beta, float *y, float *mean, float *inverse, float *variance);

/* The same, then y where y > 0, else +0 (for NaN too), and the ceiling where that is less; it is above 0, and infinite for
 * ReLU alone. Programs with a finite ceiling define ET_FORM_CEILING.
 */
ET_CHECKED et_status et_batch_norm_train_relu_f32(int32_t rows, int32_t channels, float epsilon, float ceiling,
    const float *x, const float *gamma, const float *beta, float *y, float *mean, float *inverse, float *variance);

/* The same with an addend [rows][channels], added to the normalised values; y may be the addend. */
ET_CHECKED et_status et_batch_norm_train_add_f32(int32_t rows, int32_t channels, float epsilon, const float *x,
    const float *gamma, const float *beta, const float *addend, float *y, float *mean, float *inverse, float *variance);

/* The addition, then the ReLU. */
ET_CHECKED et_status et_batch_norm_train_add_relu_f32(int32_t rows, int32_t channels, float epsilon, float ceiling,
    const float *x, const float *gamma, const float *beta, const float *addend, float *y, float *mean, float *inverse,
    float *variance);

/* next = madd(keep, running, take * batch). `next` may be `running` or `batch`.
 *   keep, take  momentum and 1 - momentum
 */
ET_CHECKED et_status et_running_statistic_f32(int32_t count, float keep, float take, const float *running,
    const float *batch, float *next);

/* inverse = 1 / sqrt(var + epsilon). `inverse` may be `var`. */
ET_CHECKED et_status et_inverse_deviation_f32(int32_t count, float epsilon, const float *var, float *inverse);

/* dgamma = inverse * sum of madd(dy, x - mean, sum); dbeta = sum of dy, by plain additions. */
ET_CHECKED et_status et_batch_norm_grad_parameters_f32(int32_t rows, int32_t channels, const float *dy, const float *x,
    const float *mean, const float *inverse, float *dgamma, float *dbeta);

/* dx = dy * (gamma * inverse): where the statistics are constants. dx may be dy. */
ET_CHECKED et_status et_batch_norm_grad_running_f32(int32_t rows, int32_t channels, const float *dy,
    const float *gamma, const float *inverse, float *dx);

/* dx = (gamma * inverse) * madd(-slope, x - mean, dy - shift): where the statistics are those of the batch, with
 * slope = (dgamma * inverse) * (1 / rows) and shift = dbeta * (1 / rows). dx may be dy or x.
 */
ET_CHECKED et_status et_batch_norm_grad_batch_f32(int32_t rows, int32_t channels, const float *dy, const float *x,
    const float *gamma, const float *mean, const float *inverse, const float *dgamma, const float *dbeta, float *dx);

#endif
