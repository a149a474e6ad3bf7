/* See et_loss.h. */
#include "et_loss.h"

#include "et_lanes.h"
#include "et_math.h"
#include "et_turn.h"

static bool labels_fit(int32_t n, int32_t classes, const int32_t *labels)
{
    for (int32_t i = 0; i < n; ++i) {
        if ((uint32_t)labels[i] >= (uint32_t)classes)
            return false;
    }
    return true;
}

static float maximum(int32_t count, const float *x)
{
    float largest = x[0];
    for (int32_t c = 1; c < count; ++c) {
        if (x[c] > largest)
            largest = x[c];
    }
    return largest;
}

/* exponentials = exp(x - largest); gives their sum. */
static float exponentials_and_sum(int32_t count, const float *x, float largest, float *exponentials)
{
    float sum = 0.0f;
    for (int32_t c = 0; c < count; ++c) {
        const float e = et_exp_f32(x[c] - largest);
        exponentials[c] = e;
        sum += e;
    }
    return sum;
}

static void divide(int32_t count, float *x, float divisor)
{
    for (int32_t c = 0; c < count; ++c)
        x[c] = x[c] / divisor;
}

#if ET_HAS_ARRAYS
#define ET_LOSS_SAMPLES 16

#if ET_LANES == 16
#include "et_loss_lanes.inc"
#endif

/* The exponentials of `samples` samples, at most ET_LOSS_SAMPLES, divided by their sums; adds their losses to `total`. */
static float cross_entropy_of(
    int32_t samples, int32_t classes, const float *logits, const int32_t *labels, float *probabilities, float total)
{
#if ET_LANES == 16
    if (samples == ET_LOSS_SAMPLES && classes <= ET_LOSS_CLASSES)
        return cross_entropy_of_lanes(classes, logits, labels, probabilities, total);
#endif
    float of_label[ET_LOSS_SAMPLES], sums[ET_LOSS_SAMPLES], logarithms[ET_LOSS_SAMPLES];
    for (int32_t i = 0; i < samples; ++i) {
        const float *from = logits + (ptrdiff_t)i * classes;
        float *to = probabilities + (ptrdiff_t)i * classes;
        const float largest = maximum(classes, from);
        of_label[i] = from[labels[i]] - largest;
        for (int32_t c = 0; c < classes; ++c)
            to[c] = from[c] - largest;
    }
    et_exp_all_f32((size_t)samples * (size_t)classes, probabilities, probabilities);
    for (int32_t i = 0; i < samples; ++i) {
        const float *e = probabilities + (ptrdiff_t)i * classes;
        float sum = 0.0f;
        for (int32_t c = 0; c < classes; ++c)
            sum += e[c];
        sums[i] = sum;
    }
    et_log_all_f32((size_t)samples, sums, logarithms);
    for (int32_t i = 0; i < samples; ++i) {
        total += logarithms[i] - of_label[i];
        divide(classes, probabilities + (ptrdiff_t)i * classes, sums[i]);
    }
    return total;
}
#endif

et_status et_cross_entropy_f32(
    int32_t n, int32_t classes, float scale, const float *logits, const int32_t *labels, float *loss,
    float *probabilities)
{
    if (!labels_fit(n, classes, labels))
        return ET_BAD_LABEL;
    float total = 0.0f;
#if ET_HAS_ARRAYS
    for (int32_t i = 0, samples; i < n; i += samples) {
        samples = n - i < ET_LOSS_SAMPLES ? n - i : ET_LOSS_SAMPLES;
        const ptrdiff_t at = (ptrdiff_t)i * classes;
        total = cross_entropy_of(samples, classes, logits + at, labels + i, probabilities + at, total);
    }
#else
    for (int32_t i = 0; i < n; ++i) {
        const float largest = maximum(classes, logits);
        const float of_label = logits[labels[i]] - largest;
        const float sum = exponentials_and_sum(classes, logits, largest, probabilities);
        total += et_log_f32(sum) - of_label;
        divide(classes, probabilities, sum);
        logits += classes;
        probabilities += classes;
    }
#endif
    *loss = total * scale;
    return ET_OK;
}

et_status et_soft_cross_entropy_f32(
    int32_t n, int32_t classes, float scale, const float *logits, const float *labels, float *loss,
    float *probabilities)
{
    float total = 0.0f;
    for (int32_t i = 0; i < n; ++i) {
        const float largest = maximum(classes, logits);
        const float sum = exponentials_and_sum(classes, logits, largest, probabilities);
        const float log_sum = et_log_f32(sum);
        float sample = 0.0f;
        for (int32_t c = 0; c < classes; ++c)
            sample = et_madd(labels[c], log_sum - (logits[c] - largest), sample);
        total += sample;
        divide(classes, probabilities, sum);
        logits += classes;
        labels += classes;
        probabilities += classes;
    }
    *loss = total * scale;
    return ET_OK;
}

et_status et_cross_entropy_grad_f32(
    int32_t n, int32_t classes, float scale, const float *probabilities, const int32_t *labels, float *dlogits)
{
    if (!labels_fit(n, classes, labels))
        return ET_BAD_LABEL;
    for (int32_t i = 0; i < n; ++i) {
        const float of_label = probabilities[labels[i]];
        for (int32_t c = 0; c < classes; ++c)
            dlogits[c] = probabilities[c] * scale;
        dlogits[labels[i]] = (of_label - 1.0f) * scale;
        probabilities += classes;
        dlogits += classes;
    }
    return ET_OK;
}

et_status et_soft_cross_entropy_grad_f32(
    int32_t n, int32_t classes, float scale, const float *probabilities, const float *labels, float *dlogits)
{
    return et_mean_squared_error_grad_f32((size_t)n * (size_t)classes, scale, probabilities, labels, dlogits);
}

et_status et_mean_squared_error_f32(
    size_t count, float scale, const float *prediction, const float *target, float *loss)
{
    float total = 0.0f;
    for (size_t i = 0; i < count; ++i) {
        const float difference = prediction[i] - target[i];
        total = et_madd(difference, difference, total);
    }
    *loss = total * scale;
    return ET_OK;
}

et_status et_mean_squared_error_grad_f32(
    size_t count, float scale, const float *prediction, const float *target, float *dprediction)
{
    for (size_t i = 0; i < count; ++i)
        dprediction[i] = (prediction[i] - target[i]) * scale;
    return ET_OK;
}

static inline float hinge(float score, float target)
{
    const float margin = et_madd(-target, score, 1.0f);
    return margin > 0.0f ? margin : 0.0f;
}

et_status et_squared_hinge_f32(
    int32_t n, int32_t classes, float scale, const float *scores, const int32_t *labels, float *loss)
{
    if (!labels_fit(n, classes, labels))
        return ET_BAD_LABEL;
    float total = 0.0f;
    for (int32_t i = 0; i < n; ++i) {
        for (int32_t c = 0; c < classes; ++c) {
            const float h = hinge(scores[c], c == labels[i] ? 1.0f : -1.0f);
            total = et_madd(h, h, total);
        }
        scores += classes;
    }
    *loss = total * scale;
    return ET_OK;
}

et_status et_soft_squared_hinge_f32(
    int32_t n, int32_t classes, float scale, const float *scores, const float *targets, float *loss)
{
    const size_t count = (size_t)n * (size_t)classes;
    float total = 0.0f;
    for (size_t i = 0; i < count; ++i) {
        const float h = hinge(scores[i], targets[i]);
        total = et_madd(h, h, total);
    }
    *loss = total * scale;
    return ET_OK;
}

et_status et_squared_hinge_grad_f32(
    int32_t n, int32_t classes, float scale, const float *scores, const int32_t *labels, float *dscores)
{
    if (!labels_fit(n, classes, labels))
        return ET_BAD_LABEL;
    for (int32_t i = 0; i < n; ++i) {
        for (int32_t c = 0; c < classes; ++c) {
            const float target = c == labels[i] ? 1.0f : -1.0f;
            dscores[c] = hinge(scores[c], target) * target * scale;
        }
        scores += classes;
        dscores += classes;
    }
    return ET_OK;
}

et_status et_soft_squared_hinge_grad_f32(
    int32_t n, int32_t classes, float scale, const float *scores, const float *targets, float *dscores)
{
    const size_t count = (size_t)n * (size_t)classes;
    for (size_t i = 0; i < count; ++i)
        dscores[i] = hinge(scores[i], targets[i]) * targets[i] * scale;
    return ET_OK;
}
