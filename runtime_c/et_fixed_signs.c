/* See et_fixed_signs.h. */
#include "et_fixed_signs.h"

#include "et_block.h"

enum { MOST_OUTPUTS = 16384 }; /* the magnitudes of eight rows fit into 32 bits */

/* The signs of up to eight rows of one output, and the sum of the magnitudes. */
static uint32_t one_output(const int16_t *w, size_t rows, size_t outputs, uint32_t *sum)
{
    uint32_t bits = 0;
    for (size_t j = 0; j < rows; ++j, w += outputs) {
        const int32_t value = *w, sign = value >> 31;
        *sum += (uint32_t)(value ^ sign);
        bits |= (uint32_t)(sign + 1) << j;
    }
    return bits;
}

#if ET_SCALAR_CORE && defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

typedef uint32_t __attribute__((may_alias)) two_weights;

/* The magnitudes of two weights in a word, each below 2^15; adds their signs to `signs`, row j at bit j of each half. */
static inline uint32_t two_magnitudes(uint32_t word, int j, uint32_t *signs)
{
    const uint32_t negative = word & 0x80008000u, low = negative >> 15;
    *signs |= negative >> (15 - j);
    return word ^ ((low << 16) - low);
}

static inline uint32_t halves(uint32_t word)
{
    return (word & 0xFFFFu) + (word >> 16);
}

/* Eight rows of two neighbouring outputs: their signs in the lower bytes of both halves. `w` is at an even address of
 * int16, rows are `words` apart. Two magnitudes of a half fit into it. */
static inline uint32_t two_outputs(const two_weights *w, size_t words, uint32_t *sum)
{
    uint32_t negative = 0, total = 0;
    ET_UNROLL
    for (int j = 0; j < 8; j += 2) {
        const uint32_t first = two_magnitudes(*w, j, &negative);
        w += words;
        total += halves(first + two_magnitudes(*w, j + 1, &negative));
        w += words;
    }
    *sum += total;
    return ~negative;
}

/* Eight rows of all outputs, an even number of them. */
static uint32_t eight_rows(const int16_t *w, size_t outputs, size_t filter, uint8_t *byte)
{
    uint32_t sum = 0;
    const two_weights *word = (const void *)w;
    for (size_t left = outputs; left > 0; left -= 2, ++word) {
        const uint32_t signs = two_outputs(word, outputs / 2, &sum);
        byte[0] = (uint8_t)signs;
        byte += filter;
        byte[0] = (uint8_t)(signs >> 16);
        byte += filter;
    }
    return sum;
}

static bool in_words(const int16_t *w, size_t outputs)
{
    return outputs % 2 == 0 && (uintptr_t)w % 4 == 0;
}

#else

static uint32_t eight_rows(const int16_t *w, size_t outputs, size_t filter, uint8_t *byte)
{
    uint32_t sum = 0;
    for (size_t o = 0; o < outputs; ++o, ++w, byte += filter)
        *byte = (uint8_t)one_output(w, 8, outputs, &sum);
    return sum;
}

static bool in_words(const int16_t *w, size_t outputs)
{
    (void)w;
    (void)outputs;
    return true;
}

#endif

et_status et_fixed_signs_i16(
    size_t taps, size_t inputs, size_t outputs, float unit, const int16_t *w, uint8_t *signs, float *scale)
{
    if (taps == 0 || inputs == 0 || outputs == 0 || outputs > MOST_OUTPUTS || w == NULL || signs == NULL || scale == NULL)
        return ET_BAD_ARGUMENT;
    const size_t bytes = (inputs + 7) / 8, filter = taps * bytes;
    const bool fast = in_words(w, outputs);
    uint64_t total = 0;
    for (size_t tap = 0; tap < taps; ++tap) {
        size_t rows;
        for (size_t i = 0; i < inputs; i += rows, w += rows * outputs) {
            uint8_t *byte = signs + tap * bytes + i / 8;
            rows = inputs - i < 8 ? inputs - i : 8;
            if (fast && rows == 8) {
                total += eight_rows(w, outputs, filter, byte);
                continue;
            }
            uint32_t sum = 0;
            for (size_t o = 0; o < outputs; ++o, byte += filter)
                *byte = (uint8_t)one_output(w + o, rows, outputs, &sum);
            total += sum;
        }
    }
    *scale = ((float)(total == 0 ? 1 : total) / (float)(taps * inputs * outputs)) * unit;
    return ET_OK;
}
