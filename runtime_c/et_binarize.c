/* See et_binarize.h. */
#include "et_binarize.h"

#include "et_straight_through.h"

et_status et_binarize_activations_f32(size_t rows, size_t channels, float beta, const float *x, const float *shift,
    uint8_t *bits)
{
    if (channels == 0 || x == NULL || shift == NULL || bits == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t row = 0; row < rows; ++row, x += channels)
        for (size_t c = 0; c < channels; c += 8) {
            const size_t left = channels - c < 8 ? channels - c : 8;
            unsigned byte = 0;
            for (size_t j = 0; j < left; ++j)
                byte |= (unsigned)(et_madd(beta, x[c + j], shift[c + j]) >= 0.0f) << j;
            *bits++ = (uint8_t)byte;
        }
    return ET_OK;
}

et_status et_binarize_activations_grad_f32(size_t rows, size_t channels, float beta, const float *dy, const float *x,
    const float *shift, float *dz)
{
    if (channels == 0 || dy == NULL || x == NULL || shift == NULL || dz == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t row = 0; row < rows; ++row, x += channels, dy += channels, dz += channels)
        for (size_t c = 0; c < channels; ++c) {
            const float slope = et_sigmoid_slope_f32(et_madd(beta, x[c], shift[c]));
            dz[c] = dy[c] * slope;
        }
    return ET_OK;
}

et_status et_unpack_signs_f32(size_t rows, size_t channels, const uint8_t *bits, float *y)
{
    if (channels == 0 || bits == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t row = 0; row < rows; ++row, y += channels)
        for (size_t c = 0; c < channels; c += 8) {
            const size_t left = channels - c < 8 ? channels - c : 8;
            const unsigned byte = *bits++;
            for (size_t j = 0; j < left; ++j)
                y[c + j] = (byte >> j & 1u) != 0 ? 1.0f : -1.0f;
        }
    return ET_OK;
}

et_status et_unpack_weight_signs_f32(size_t taps, size_t inputs, size_t outputs, const uint8_t *bits, float *y)
{
    if (bits == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t o = 0; o < outputs; ++o) {
        float *column = y + o;
        for (size_t tap = 0; tap < taps; ++tap)
            for (size_t i = 0; i < inputs; i += 8) {
                const size_t left = inputs - i < 8 ? inputs - i : 8;
                const unsigned byte = *bits++;
                for (size_t j = 0; j < left; ++j, column += outputs)
                    *column = (byte >> j & 1u) != 0 ? 1.0f : -1.0f;
            }
    }
    return ET_OK;
}
