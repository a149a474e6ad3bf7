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

/* Sums of magnitudes, two in a word: all words as they are, and their upper halves alone. */
typedef struct {
    uint32_t words;
    uint32_t upper;
} two_sums;

/* The magnitudes of two weights, each below 2^15; adds their signs to `signs`, row j at bit j of each half. */
static inline uint32_t two_magnitudes(uint32_t word, int j, uint32_t *signs)
{
    const uint32_t low = word >> 15 & 0x10001u;
    *signs |= low << j;
    return word ^ ((low << 16) - low);
}

static inline void add_two(two_sums *sums, uint32_t word)
{
    sums->words += word;
    sums->upper += word >> 16;
}

static inline uint8_t *put_signs(uint8_t *byte, size_t filter, uint32_t negative)
{
    *byte = (uint8_t)~negative;
    byte += filter;
    *byte = (uint8_t)(~negative >> 16);
    return byte + filter;
}

#define ROW(j)                                                                               \
    {                                                                                        \
        const uint32_t a = row[0], b = row[1];                                               \
        row += words;                                                                        \
        add_two(&sums, two_magnitudes(a, j, &first) + two_magnitudes(b, j, &second));        \
        ET_OPAQUE(row);                                                                      \
        ET_OPAQUE(sums.upper);                                                               \
        ET_BARRIER();                                                                        \
    }
/* Eight rows of `outputs` outputs, a multiple of 4, from an even address of int16. Two magnitudes of a half fit into it. */
static ET_NOINLINE uint32_t eight_rows(const int16_t *w, size_t outputs, size_t filter, uint8_t *byte)
{
    two_sums sums = {0, 0};
    const two_weights *word = (const void *)w;
    const size_t words = outputs / 2;
    for (const two_weights *end = word + words; word != end; word += 2) {
        const two_weights *row = word;
        uint32_t first = 0, second = 0;
        ROW(0) ROW(1) ROW(2) ROW(3) ROW(4) ROW(5) ROW(6) ROW(7)
        byte = put_signs(byte, filter, first);
        byte = put_signs(byte, filter, second);
    }
    return sums.words - (sums.upper << 16) + sums.upper;
}

static bool in_words(const int16_t *w, size_t outputs)
{
    return outputs % 4 == 0 && (uintptr_t)w % 4 == 0;
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
