/* See et_power_prelu.h. */
#include "et_power_prelu.h"

#include "et_block.h"
#include "et_math.h"

/* Channels that are worked on at once: their slopes stay in registers while the rows go by. */
#define BLOCK ET_BLOCK_OF(4, 16)

/* Calls FUNCTION(first channel, how many of them, ...) for blocks of channels, and then for single ones. */
#define EACH_BLOCK(channels, FUNCTION, ...)                \
    do {                                                   \
        size_t c_ = 0;                                     \
        for (; c_ + BLOCK <= (channels); c_ += BLOCK)      \
            FUNCTION(c_, BLOCK, __VA_ARGS__);              \
        for (; BLOCK > 4 && c_ + 4 <= (channels); c_ += 4) \
            FUNCTION(c_, 4, __VA_ARGS__);                  \
        for (; c_ < (channels); ++c_)                      \
            FUNCTION(c_, 1, __VA_ARGS__);                  \
    } while (0)

/* 2^rint(exponent). */
static float slope_of(float exponent)
{
    const float whole = et_rint_f32(exponent);
    const float above = whole > -126.0f ? whole : -126.0f;
    const int32_t k = (int32_t)(above < 127.0f ? above : 127.0f);
    return et_from_bits_f32((uint32_t)(k + 127) << 23);
}

ET_INLINE void forward_block(size_t c, size_t width, size_t rows, size_t channels, const float *x,
    const float *exponent, float *y)
{
    float slope[BLOCK];
    for (size_t i = 0; i < width; ++i)
        slope[i] = slope_of(exponent[c + i]);
    for (size_t at = c; rows > 0; --rows, at += channels) {
        float result[BLOCK];
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            result[i] = x[at + i] >= 0.0f ? x[at + i] : x[at + i] * slope[i];
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            y[at + i] = result[i];
    }
}

et_status et_power_prelu_f32(size_t rows, size_t channels, const float *x, const float *exponent, float *y)
{
    if (channels == 0 || x == NULL || exponent == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK(channels, forward_block, rows, channels, x, exponent, y);
    return ET_OK;
}

ET_INLINE void input_block(size_t c, size_t width, size_t rows, size_t channels, const float *dy, const float *x,
    const float *exponent, float *dx)
{
    float slope[BLOCK];
    for (size_t i = 0; i < width; ++i)
        slope[i] = slope_of(exponent[c + i]);
    for (size_t at = c; rows > 0; --rows, at += channels) {
        float result[BLOCK];
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            result[i] = x[at + i] >= 0.0f ? dy[at + i] : dy[at + i] * slope[i];
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            dx[at + i] = result[i];
    }
}

et_status et_power_prelu_grad_input_f32(size_t rows, size_t channels, const float *dy, const float *x,
    const float *exponent, float *dx)
{
    if (channels == 0 || dy == NULL || x == NULL || exponent == NULL || dx == NULL)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK(channels, input_block, rows, channels, dy, x, exponent, dx);
    return ET_OK;
}

ET_INLINE void exponent_block(size_t c, size_t width, size_t rows, size_t channels, const float *dy, const float *x,
    const float *exponent, float *dexponent)
{
    float sum[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; ++i)
        sum[i] = 0.0f;
    for (size_t at = c; rows > 0; --rows, at += channels)
        ET_UNROLL
        for (size_t i = 0; i < width; ++i) {
            const float more = et_madd(dy[at + i], x[at + i], sum[i]);
            sum[i] = x[at + i] < 0.0f ? more : sum[i];
        }
    for (size_t i = 0; i < width; ++i) {
        const float change = slope_of(exponent[c + i]) * 0.6931472f;
        dexponent[c + i] = sum[i] * change;
    }
}

et_status et_power_prelu_grad_exponent_f32(size_t rows, size_t channels, const float *dy, const float *x,
    const float *exponent, float *dexponent)
{
    if (channels == 0 || dy == NULL || x == NULL || exponent == NULL || dexponent == NULL)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK(channels, exponent_block, rows, channels, dy, x, exponent, dexponent);
    return ET_OK;
}
