/* See et_fixed_signs.h. */
#include "et_fixed_signs.h"

/* The signs of up to eight rows of one output, and the sum of the magnitudes. */
static inline uint32_t column(const int16_t *w, size_t rows, size_t outputs, uint32_t *sum)
{
    uint32_t bits = 0, total = 0;
    for (size_t j = 0; j < rows; ++j, w += outputs) {
        const int32_t value = *w, sign = value >> 31;
        total += (uint32_t)(value ^ sign);
        bits |= (uint32_t)(sign + 1) << j;
    }
    *sum += total;
    return bits;
}

et_status et_fixed_signs_i16(
    size_t taps, size_t inputs, size_t outputs, float unit, const int16_t *w, uint8_t *signs, float *scale)
{
    if (taps == 0 || inputs == 0 || outputs == 0 || w == NULL || signs == NULL || scale == NULL)
        return ET_BAD_ARGUMENT;
    const size_t bytes = (inputs + 7) / 8, filter = taps * bytes;
    uint64_t sum = 0;
    for (size_t tap = 0; tap < taps; ++tap)
        for (size_t i = 0; i < inputs; i += 8, w += 7 * outputs) {
            const size_t rows = inputs - i < 8 ? inputs - i : 8;
            uint8_t *byte = signs + tap * bytes + i / 8;
            uint32_t of_rows = 0; /* at most 8 * 32767 for each output */
            for (size_t o = 0; o < outputs; ++o, ++w, byte += filter) {
                if (rows == 8)
                    *byte = (uint8_t)column(w, 8, outputs, &of_rows);
                else
                    *byte = (uint8_t)column(w, rows, outputs, &of_rows);
                if ((o & 4095u) == 4095u) {
                    sum += of_rows;
                    of_rows = 0;
                }
            }
            sum += of_rows;
            if (rows < 8)
                w -= (8 - rows) * outputs;
        }
    *scale = ((float)(sum == 0 ? 1 : sum) / (float)(taps * inputs * outputs)) * unit;
    return ET_OK;
}
