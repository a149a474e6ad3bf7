/* See et_loss_part.h. */
#include "et_loss_part.h"

#include "et_math.h"

/* The loss of a single sample is 0 + itself, times 1: the same bits as the term of a sum. */
#define ET_ADD_SAMPLES(KERNEL, labels_step)                                                 \
    float sum = goes_on ? *total : 0.0f;                                                    \
    for (int32_t i = 0; i < n; ++i) {                                                       \
        float loss;                                                                         \
        const et_status status = KERNEL(1, classes, 1.0f, logits, labels, &loss, probabilities); \
        if (status != ET_OK)                                                                \
            return status;                                                                  \
        sum += loss;                                                                        \
        logits += classes;                                                                  \
        labels += labels_step;                                                              \
        probabilities += classes;                                                           \
    }                                                                                       \
    *total = sum;                                                                           \
    return ET_OK;

et_status et_cross_entropy_on_f32(
    int32_t n, int32_t classes, bool goes_on, const float *logits, const int32_t *labels, float *total,
    float *probabilities)
{
    ET_ADD_SAMPLES(et_cross_entropy_f32, 1)
}

et_status et_soft_cross_entropy_on_f32(
    int32_t n, int32_t classes, bool goes_on, const float *logits, const float *labels, float *total,
    float *probabilities)
{
    ET_ADD_SAMPLES(et_soft_cross_entropy_f32, classes)
}

et_status et_mean_squared_error_on_f32(
    size_t count, bool goes_on, const float *prediction, const float *target, float *total)
{
    float sum = goes_on ? *total : 0.0f;
    for (size_t i = 0; i < count; ++i) {
        const float difference = prediction[i] - target[i];
        sum = et_madd(difference, difference, sum);
    }
    *total = sum;
    return ET_OK;
}
