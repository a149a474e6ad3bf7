/* See et_softmax.h. */
#include "et_softmax.h"

#include "et_math.h"

/* The elements of one softmax are `step` apart and end before `end`. */
static float maximum(const float *x, size_t end, size_t step)
{
    float largest = x[0];
    for (size_t j = step; j < end; j += step) {
        if (x[j] > largest)
            largest = x[j];
    }
    return largest;
}

static void softmax(const float *x, size_t end, size_t step, float *y)
{
    const float largest = maximum(x, end, step);
    float sum = 0.0f;
    for (size_t j = 0; j < end; j += step) {
        const float e = et_exp_f32(x[j] - largest);
        y[j] = e;
        sum += e;
    }
    for (size_t j = 0; j < end; j += step)
        y[j] = y[j] / sum;
}

static void softmax_grad(const float *dy, const float *y, size_t end, size_t step, float *dx)
{
    float dot = 0.0f;
    for (size_t j = 0; j < end; j += step)
        dot = et_madd(dy[j], y[j], dot);
    for (size_t j = 0; j < end; j += step)
        dx[j] = (dy[j] - dot) * y[j];
}

static void log_softmax(const float *x, size_t end, size_t step, float *y)
{
    const float largest = maximum(x, end, step);
    float sum = 0.0f;
    for (size_t j = 0; j < end; j += step) {
        const float shifted = x[j] - largest;
        y[j] = shifted;
        sum += et_exp_f32(shifted);
    }
    const float log_sum = et_log_f32(sum);
    for (size_t j = 0; j < end; j += step)
        y[j] = y[j] - log_sum;
}

static void log_softmax_grad(const float *dy, const float *y, size_t end, size_t step, float *dx)
{
    float sum = 0.0f;
    for (size_t j = 0; j < end; j += step)
        sum += dy[j];
    for (size_t j = 0; j < end; j += step)
        dx[j] = et_madd(-et_exp_f32(y[j]), sum, dy[j]);
}

/* Makes CALL for every softmax; it begins at element `at`. */
#define FOR_EACH_SOFTMAX(CALL)                                              \
    do {                                                                    \
        const size_t step = (size_t)inner;                                  \
        const size_t end = (size_t)length * step;                           \
        for (size_t group = 0; group < (size_t)outer; ++group) {            \
            for (size_t at = group * end; at < group * end + step; ++at)    \
                CALL;                                                       \
        }                                                                   \
    } while (0)

et_status et_softmax_f32(int32_t outer, int32_t length, int32_t inner, const float *x, float *y)
{
    FOR_EACH_SOFTMAX(softmax(x + at, end, step, y + at));
    return ET_OK;
}

et_status et_softmax_grad_f32(
    int32_t outer, int32_t length, int32_t inner, const float *dy, const float *y, float *dx)
{
    FOR_EACH_SOFTMAX(softmax_grad(dy + at, y + at, end, step, dx + at));
    return ET_OK;
}

et_status et_log_softmax_f32(int32_t outer, int32_t length, int32_t inner, const float *x, float *y)
{
    FOR_EACH_SOFTMAX(log_softmax(x + at, end, step, y + at));
    return ET_OK;
}

et_status et_log_softmax_grad_f32(
    int32_t outer, int32_t length, int32_t inner, const float *dy, const float *y, float *dx)
{
    FOR_EACH_SOFTMAX(log_softmax_grad(dy + at, y + at, end, step, dx + at));
    return ET_OK;
}
