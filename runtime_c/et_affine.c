#include "et_affine.h"

#include "et_math.h"

/* low <= t <= high, low for NaN. */
static inline float within(float t, float low, float high)
{
    t = t > low ? t : low;
    return t < high ? t : high;
}

et_status et_affine_quantize_i8(size_t count, float inverse, int32_t zero, const float *x, int8_t *y)
{
    const float low = (float)(-128 - zero), high = (float)(127 - zero);
    for (size_t i = 0; i < count; i++) {
        const float t = within(x[i] * inverse, low, high);
        y[i] = (int8_t)((int32_t)et_rint_f32(t) + zero);
    }
    return ET_OK;
}

et_status et_encode_range_i8(size_t count, const float *x, int8_t *y, float *range)
{
    if (x == NULL || y == NULL || range == NULL)
        return ET_BAD_ARGUMENT;
    float low = 0.0f, high = 0.0f;
    for (size_t i = 0; i < count; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    const float span = high - low, inverse = span > 0.0f ? 255.0f / span : 0.0f;
    const int32_t zero = (int32_t)et_rint_f32(within(-low * inverse, 0.0f, 255.0f)) - 128;
    range[0] = span / 255.0f;
    range[1] = (float)zero;
    return et_affine_quantize_i8(count, inverse, zero, x, y);
}

et_status et_decode_range_i8(size_t count, const int8_t *y, const float *range, float *x)
{
    if (y == NULL || range == NULL || x == NULL)
        return ET_BAD_ARGUMENT;
    const float scale = range[0];
    const int32_t zero = (int32_t)range[1];
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(y[i] - zero) * scale;
    return ET_OK;
}
