/* Losses, averaged over the batch, and their gradients.
 *
 * For all kernels here: scores float32 [n][classes], row-major; labels int32 [n], class numbers, or float32
 * [n][classes]; loss points to one float32. `scale` is the constant factor of the mean, rounded once when compiling.
 * A class number outside [0, classes) gives ET_BAD_LABEL before anything is written.
 */
#ifndef ET_LOSS_H
#define ET_LOSS_H

#include "et_base.h"

/* Softmax and cross entropy. With x' = x - max and lse = log(sum of exp(x')), sums ascending from +0:
 *   probabilities = exp(x') / (sum of exp(x'))          may be logits exactly
 *   loss = (sum over the batch, ascending from +0, of lse - x'[label]) * scale
 */
ET_CHECKED et_status et_cross_entropy_f32(
    int32_t n, int32_t classes, float scale, const float *logits, const int32_t *labels, float *loss,
    float *probabilities);

/* The same for labels that are distributions: a sample's loss is the sum over c of labels[c] * (lse - x'[c]), by
 * multiply-adds, ascending from +0. The probabilities may not overlap the logits. */
ET_CHECKED et_status et_soft_cross_entropy_f32(
    int32_t n, int32_t classes, float scale, const float *logits, const float *labels, float *loss,
    float *probabilities);

/* dlogits = (probabilities - target) * scale; target is 1 for the label and 0 otherwise. May be in place. */
ET_CHECKED et_status et_cross_entropy_grad_f32(
    int32_t n, int32_t classes, float scale, const float *probabilities, const int32_t *labels, float *dlogits);
ET_CHECKED et_status et_soft_cross_entropy_grad_f32(
    int32_t n, int32_t classes, float scale, const float *probabilities, const float *labels, float *dlogits);

/* loss = (sum of d * d by multiply-adds, ascending from +0) * scale, d = prediction - target; float32 [count] each */
ET_CHECKED et_status et_mean_squared_error_f32(
    size_t count, float scale, const float *prediction, const float *target, float *loss);

/* dprediction = (prediction - target) * scale. May be in place of the prediction. */
ET_CHECKED et_status et_mean_squared_error_grad_f32(
    size_t count, float scale, const float *prediction, const float *target, float *dprediction);

/* Squared hinge: h = madd(-target, score, 1) where that is > 0, else 0; target is +1 for the label and -1 otherwise, or
 * given. loss = (sum of h * h by multiply-adds, ascending from +0) * scale */
ET_CHECKED et_status et_squared_hinge_f32(
    int32_t n, int32_t classes, float scale, const float *scores, const int32_t *labels, float *loss);
ET_CHECKED et_status et_soft_squared_hinge_f32(
    int32_t n, int32_t classes, float scale, const float *scores, const float *targets, float *loss);

/* dscores = (h * target) * scale. May be in place. */
ET_CHECKED et_status et_squared_hinge_grad_f32(
    int32_t n, int32_t classes, float scale, const float *scores, const int32_t *labels, float *dscores);
ET_CHECKED et_status et_soft_squared_hinge_grad_f32(
    int32_t n, int32_t classes, float scale, const float *scores, const float *targets, float *dscores);

#endif
