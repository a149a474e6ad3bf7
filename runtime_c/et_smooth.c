/* See et_smooth.h. Each value takes a call and tens of operations, so plain loops lose nothing on in-order cores. */
#include "et_smooth.h"

#include "et_math.h"

#define ROOT_HALF 0.70710678f     /* sqrt(1/2) */
#define DENSITY_AT_0 0.39894228f  /* 1 / sqrt(2 pi) */
#define TWO_BY_ROOT_PI 1.1283792f /* 2 / sqrt(pi) */
#define SLOPE_AT_0 0.79788456f    /* sqrt(2 / pi) */
#define CUBIC 0.035677408f        /* 0.044715 sqrt(2 / pi) */
#define CUBIC_SLOPE 0.107032225f  /* three times that */

/* The share of a normal distribution that lies below x. */
static inline float below(float x)
{
    return 0.5f * (et_erf_f32(x * ROOT_HALF) + 1.0f);
}

static inline float tanh_of_cubic(float x)
{
    const float square = x * x;
    return et_tanh_f32(x * et_madd(CUBIC, square, SLOPE_AT_0));
}

et_status et_erf_each_f32(size_t count, const float *x, float *y)
{
    for (size_t i = 0; i < count; ++i)
        y[i] = et_erf_f32(x[i]);
    return ET_OK;
}

et_status et_erf_grad_f32(size_t count, const float *dy, const float *x, float *dx)
{
    for (size_t i = 0; i < count; ++i) {
        const float square = x[i] * x[i];
        dx[i] = dy[i] * (et_exp_f32(-square) * TWO_BY_ROOT_PI);
    }
    return ET_OK;
}

et_status et_gelu_f32(size_t count, const float *x, float *y)
{
    for (size_t i = 0; i < count; ++i) {
        const float half = x[i] * 0.5f;
        y[i] = half * (et_erf_f32(x[i] * ROOT_HALF) + 1.0f);
    }
    return ET_OK;
}

et_status et_gelu_grad_f32(size_t count, const float *dy, const float *x, float *dx)
{
    for (size_t i = 0; i < count; ++i) {
        const float square = x[i] * x[i];
        const float density = et_exp_f32(square * -0.5f) * DENSITY_AT_0;
        dx[i] = dy[i] * et_madd(x[i], density, below(x[i]));
    }
    return ET_OK;
}

et_status et_gelu_tanh_f32(size_t count, const float *x, float *y)
{
    for (size_t i = 0; i < count; ++i) {
        const float half = x[i] * 0.5f;
        y[i] = half * (tanh_of_cubic(x[i]) + 1.0f);
    }
    return ET_OK;
}

et_status et_gelu_tanh_grad_f32(size_t count, const float *dy, const float *x, float *dx)
{
    for (size_t i = 0; i < count; ++i) {
        const float t = tanh_of_cubic(x[i]);
        const float square = x[i] * x[i];
        const float half = x[i] * 0.5f;
        const float slope = half * et_madd(-t, t, 1.0f);
        dx[i] = dy[i] * et_madd(slope, et_madd(CUBIC_SLOPE, square, SLOPE_AT_0), 0.5f * (t + 1.0f));
    }
    return ET_OK;
}

et_status et_swish_f32(size_t count, float alpha, const float *x, float *y)
{
    for (size_t i = 0; i < count; ++i)
        y[i] = x[i] * et_sigmoid_f32(alpha * x[i]);
    return ET_OK;
}

et_status et_swish_grad_f32(size_t count, float alpha, const float *dy, const float *x, float *dx)
{
    for (size_t i = 0; i < count; ++i) {
        const float z = alpha * x[i];
        const float s = et_sigmoid_f32(z);
        dx[i] = dy[i] * (s * et_madd(z, 1.0f - s, 1.0f));
    }
    return ET_OK;
}
