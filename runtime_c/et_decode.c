/* See et_decode.h. */
#include "et_decode.h"

#define DECODE                                                      \
    if (codes == NULL || scale == NULL || y == NULL)                \
        return ET_BAD_ARGUMENT;                                     \
    for (size_t row = 0; row < rows; ++row, codes += size, y += size) \
        for (size_t i = 0; i < size; ++i)                           \
            y[i] = (float)codes[i] * scale[row];                    \
    return ET_OK

et_status et_decode_codes_i8(size_t rows, size_t size, const int8_t *codes, const float *scale, float *y)
{
    DECODE;
}

et_status et_decode_codes_i16(size_t rows, size_t size, const int16_t *codes, const float *scale, float *y)
{
    DECODE;
}

et_status et_decode_signs_f32(
    size_t taps, size_t inputs, size_t outputs, const uint8_t *signs, const float *scale, float *y)
{
    if (signs == NULL || scale == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    const float positive = *scale, negative = -positive;
    for (size_t o = 0; o < outputs; ++o) {
        float *weight = y + o;
        for (size_t tap = 0; tap < taps; ++tap, signs += (inputs + 7u) / 8u)
            for (size_t i = 0; i < inputs; ++i, weight += outputs)
                *weight = ((uint32_t)signs[i / 8u] >> (i % 8u) & 1u) != 0u ? positive : negative;
    }
    return ET_OK;
}
