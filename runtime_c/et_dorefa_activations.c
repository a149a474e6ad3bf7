/* See et_dorefa_activations.h. */
#include "et_dorefa_activations.h"

#include "et_each.h"
#include "et_math.h"

#define ONE_BITS 0x3F800000u

/* Whether 0 < x < 1, from the bits of x: those of negative numbers and of NaN are larger. */
static inline bool is_inside(uint32_t word)
{
    return word - 1u < ONE_BITS - 1u;
}

/* The code of 0 < x < 1. The product with the 24-bit mantissa is exact in 32 bits; two bits of it go, so that rounding
 * does not overflow, but leave behind whether they were zero. */
static inline uint32_t inner_code(uint32_t word, uint32_t levels)
{
    const uint32_t shift = 150u - (word >> 23); /* x = mantissa / 2^shift, at least 24 */
    if (shift > 32u)
        return 0; /* levels * x < 1/2; subnormals too */
    const uint32_t product = levels * ((word & 0x7FFFFFu) | 0x800000u);
    const uint32_t kept = product >> 2 | ((product & 3u) != 0u ? 1u : 0u), drop = shift - 2u;
    return (kept + (1u << (drop - 1u)) - 1u + (kept >> drop & 1u)) >> drop;
}

static inline uint32_t code_of(uint32_t word, uint32_t levels)
{
    if (is_inside(word))
        return inner_code(word, levels);
    return word - ONE_BITS <= ET_INFINITY_BITS - ONE_BITS ? levels : 0u; /* 1 to infinity; else <= 0 or NaN */
}

#define CODES(TYPE, LARGEST)                                              \
    if (levels == 0u || levels > LARGEST || x == NULL || codes == NULL)   \
        return ET_BAD_ARGUMENT;                                           \
    for (size_t i = 0; i < count; ++i)                                    \
        codes[i] = (TYPE)code_of(et_bits_f32(x[i]), levels);              \
    return ET_OK

/* In lanes codes and masks are made one after the other. */
#if ET_SCALAR_CORE
#define EACH_MASKED(TYPE)                                                                \
    for (size_t i = 0; i < count;) {                                                     \
        const size_t end = count - i < 8 ? count : i + 8;                                \
        uint32_t byte = 0, bit = 1;                                                      \
        for (; i < end; ++i, bit <<= 1) {                                                \
            const uint32_t word = et_bits_f32(x[i]);                                     \
            codes[i] = (TYPE)code_of(word, levels);                                      \
            byte |= is_inside(word) ? bit : 0u;                                          \
        }                                                                                \
        *mask++ = (uint8_t)byte;                                                         \
    }
#else
static inline uint8_t inside_bits(const float *x, size_t count)
{
    uint32_t byte = 0;
    for (size_t j = 0; j < count; ++j)
        byte |= (is_inside(et_bits_f32(x[j])) ? 1u : 0u) << j;
    return (uint8_t)byte;
}

#define EACH_MASKED(TYPE)                                  \
    for (size_t i = 0; i < count; ++i)                     \
        codes[i] = (TYPE)code_of(et_bits_f32(x[i]), levels); \
    for (; count >= 8; count -= 8, x += 8)                 \
        *mask++ = inside_bits(x, 8);                       \
    if (count > 0)                                         \
        *mask = inside_bits(x, count);
#endif

#define MASKED_CODES(TYPE, LARGEST)                                                      \
    if (levels == 0u || levels > LARGEST || x == NULL || codes == NULL || mask == NULL)  \
        return ET_BAD_ARGUMENT;                                                          \
    EACH_MASKED(TYPE)                                                                    \
    return ET_OK

et_status et_dorefa_activations_i8(size_t count, uint32_t levels, const float *x, int8_t *codes)
{
    CODES(int8_t, 127u);
}

et_status et_dorefa_activations_i16(size_t count, uint32_t levels, const float *x, int16_t *codes)
{
    CODES(int16_t, 255u);
}

et_status et_dorefa_activations_masked_i8(
    size_t count, uint32_t levels, const float *x, int8_t *codes, uint8_t *mask)
{
    MASKED_CODES(int8_t, 127u);
}

et_status et_dorefa_activations_masked_i16(
    size_t count, uint32_t levels, const float *x, int16_t *codes, uint8_t *mask)
{
    MASKED_CODES(int16_t, 255u);
}
