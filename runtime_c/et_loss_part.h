/* Losses over one part of a batch, for programs that walk over it: sums that go on, and are not yet a mean.
 *
 *   goes_on  whether `total` [1] holds the sum over the parts before; else it begins at 0
 * All else as in et_loss.h, and the order of the sum too.
 */
#ifndef ET_LOSS_PART_H
#define ET_LOSS_PART_H

#include "et_loss.h"

ET_CHECKED et_status et_cross_entropy_on_f32(
    int32_t n, int32_t classes, bool goes_on, const float *logits, const int32_t *labels, float *total,
    float *probabilities);

ET_CHECKED et_status et_soft_cross_entropy_on_f32(
    int32_t n, int32_t classes, bool goes_on, const float *logits, const float *labels, float *total,
    float *probabilities);

ET_CHECKED et_status et_mean_squared_error_on_f32(
    size_t count, bool goes_on, const float *prediction, const float *target, float *total);

#endif
