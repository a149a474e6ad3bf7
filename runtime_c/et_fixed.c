/* See et_fixed.h. */
#include "et_fixed.h"

#include "et_each.h"
#include "et_math.h"
#include "et_random.h"

#define NOT_FINITE 255u

/* Biased exponent that the tensor shares: of its largest magnitude, but large enough for a normal scale; NOT_FINITE
 * where an element is. Writes the scale. */
static uint32_t shared_exponent(size_t count, const float *x, uint32_t bits, float *scale)
{
    uint32_t top = 0;
    for (size_t i = 0; i < count; ++i) {
        const uint32_t magnitude = et_bits_f32(x[i]) << 1;
        top = magnitude > top ? magnitude : top;
    }
    top >>= 24;
    if (top == NOT_FINITE) {
        *scale = ET_NAN;
        return top;
    }
    top = top < bits - 1u ? bits - 1u : top;
    *scale = et_from_bits_f32((top - (bits - 2u)) << 23);
    return top;
}

/* Magnitude with its binary point below bit 31 at the shared exponent: 31 bits, what is lower is cut off. */
static inline uint32_t aligned(uint32_t word, uint32_t top)
{
    const uint32_t exponent = (word << 1) >> 24, shift = top - exponent;
    return exponent == 0u || shift > 30u ? 0u : ((word << 8) | 0x80000000u) >> (shift + 1u);
}

/* The magnitude, at most `largest`, with the sign of the float. */
static inline int32_t with_sign(uint32_t magnitude, uint32_t largest, uint32_t word)
{
    const int32_t bounded = (int32_t)(magnitude > largest ? largest : magnitude);
    return (int32_t)word < 0 ? -bounded : bounded;
}

/* aligned() rounded to the nearest at `bits`, ties to even: the bits cut off below decide between a tie and more. */
static inline int32_t nearest(uint32_t word, uint32_t top, uint32_t bits)
{
    const uint32_t exponent = (word << 1) >> 24, distance = top - exponent, drop = 32u - bits;
    if (exponent == 0u || distance > 24u)
        return 0;
    const uint32_t whole = ((word << 8) | 0x80000000u) >> 1, kept = whole >> distance;
    const uint32_t sticky = (kept << distance) != whole ? 1u : 0u;
    const uint32_t up = ((1u << (drop - 1u)) - 1u) + ((kept >> drop) & 1u);
    return with_sign(((kept | sticky) + up) >> drop, (1u << (bits - 1u)) - 1u, word);
}

/* Runs BODY for each element, `random` being its bits: PER of them share a random number. In lanes each makes it anew. */
#if ET_SCALAR_CORE
#define EACH_RANDOM(PER, BODY)                                                                              \
    for (size_t i = 0; i < count;) {                                                                        \
        const size_t end = count - i < (PER) ? count : i + (PER);                                           \
        for (uint32_t random = et_random_at(key, (uint32_t)(i / (PER))); i < end; ++i, random >>= 32 / (PER)) \
            BODY                                                                                            \
    }
#else
#define EACH_RANDOM(PER, BODY)                                                                                  \
    for (size_t i = 0; i < count; ++i) {                                                                        \
        const uint32_t random = et_random_at(key, (uint32_t)(i / (PER))) >> ((uint32_t)i % (PER) * (32 / (PER))); \
        BODY                                                                                                    \
    }
#endif

#define NEAREST(TYPE, BITS)                                                   \
    const uint32_t top = shared_exponent(count, x, BITS, scale);              \
    for (size_t i = 0; i < count; ++i)                                        \
        mantissa[i] = (TYPE)(top == NOT_FINITE ? 0 : nearest(et_bits_f32(x[i]), top, BITS)); \
    return ET_OK

et_status et_fixed_nearest_i8(size_t count, const float *x, int8_t *mantissa, float *scale)
{
    NEAREST(int8_t, 8u);
}

et_status et_fixed_nearest_i16(size_t count, const float *x, int16_t *mantissa, float *scale)
{
    NEAREST(int16_t, 16u);
}

et_status et_fixed_random_i8(
    size_t count, uint32_t seed, uint32_t step, uint32_t stream, const float *x, int8_t *mantissa, float *scale)
{
    const et_random_key_t key = et_random_key(seed, step, stream);
    const uint32_t top = shared_exponent(count, x, 8u, scale);
    if (top == NOT_FINITE) {
        for (size_t i = 0; i < count; ++i)
            mantissa[i] = 0;
        return ET_OK;
    }
    EACH_RANDOM(4, {
        const uint32_t word = et_bits_f32(x[i]);
        mantissa[i] = (int8_t)with_sign((aligned(word, top) + ((random & 0xFFu) << 16 | 0x8000u)) >> 24, 127u, word);
    })
    return ET_OK;
}

et_status et_fixed_random_i16(
    size_t count, uint32_t seed, uint32_t step, uint32_t stream, const float *x, int16_t *mantissa, float *scale)
{
    const et_random_key_t key = et_random_key(seed, step, stream);
    const uint32_t top = shared_exponent(count, x, 16u, scale);
    if (top == NOT_FINITE) {
        for (size_t i = 0; i < count; ++i)
            mantissa[i] = 0;
        return ET_OK;
    }
    EACH_RANDOM(2, {
        const uint32_t word = et_bits_f32(x[i]);
        mantissa[i] = (int16_t)with_sign((aligned(word, top) + (random & 0xFFFFu)) >> 16, 32767u, word);
    })
    return ET_OK;
}

static inline int8_t upper(int32_t master)
{
    const int32_t rounded = (master + 128) >> 8;
    return (int8_t)(rounded > 127 ? 127 : rounded);
}

et_status et_fixed_upper_i8(size_t count, const int16_t *master, int8_t *mantissa)
{
    for (; count >= 8; count -= 8, master += 8, mantissa += 8) {
        const int32_t a = master[0], b = master[1], c = master[2], d = master[3];
        const int32_t e = master[4], f = master[5], g = master[6], h = master[7];
        mantissa[0] = upper(a);
        mantissa[1] = upper(b);
        mantissa[2] = upper(c);
        mantissa[3] = upper(d);
        mantissa[4] = upper(e);
        mantissa[5] = upper(f);
        mantissa[6] = upper(g);
        mantissa[7] = upper(h);
    }
    for (; count > 0; --count)
        *mantissa++ = upper(*master++);
    return ET_OK;
}
