/* See et_dorefa_gradient.h. */
#include "et_dorefa_gradient.h"

#include "et_each.h"
#include "et_math.h"
#include "et_random.h"

#define LEAST_BITS (27u << 23) /* 2^-100 */

/* A positive normal float as mantissa / 2^32 * 2^exponent, the upper bit of the mantissa set; or a mantissa of 0. */
typedef struct {
    uint32_t mantissa;
    uint32_t exponent;
} factor_t;

/* What the places of one sample are made with; writes its scale. */
static factor_t factor_of(size_t size, uint32_t levels, const float *g, float *scale)
{
    factor_t factor = {0, 0};
    uint32_t largest = 0;
    for (size_t i = 0; i < size; ++i) {
        const uint32_t magnitude = et_bits_f32(g[i]) & ~ET_SIGN_BIT;
        largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= ET_INFINITY_BITS) {
        *scale = ET_NAN;
    } else if (largest < LEAST_BITS) {
        *scale = 0.0f;
    } else {
        const float m = et_from_bits_f32(largest);
        const uint32_t word = et_bits_f32((float)(int32_t)(levels << 15) / m);
        *scale = m / (float)(int32_t)levels;
        factor.mantissa = word << 8 | ET_SIGN_BIT;
        factor.exponent = word >> 23;
    }
    return factor;
}

/* |g| times the factor, cut to an integer. */
static inline uint32_t place_of(uint32_t word, factor_t factor)
{
    const uint32_t exponent = (word << 1) >> 24;
    const uint32_t upper = (uint32_t)((uint64_t)(word << 8 | ET_SIGN_BIT) * factor.mantissa >> 32);
    const uint32_t shift = 284u - exponent - factor.exponent;
    return exponent == 0u || shift > 31u ? 0u : upper >> shift;
}

static inline int32_t code_of(uint32_t word, factor_t factor, uint32_t levels, uint32_t half)
{
    const uint32_t place = place_of(word, factor), middle = (levels << 15) + half;
    const uint32_t level = ((int32_t)word < 0 ? middle - place : middle + place) >> 16;
    return (int32_t)(2u * level) - (int32_t)levels;
}

/* Two elements share a random number. In lanes each makes it anew. */
#if ET_SCALAR_CORE
#define SAMPLE(TYPE)                                                                            \
    for (const size_t end = i + size; i < end; ++i) {                                           \
        random = i % 2u == 0u ? et_random_at(key, (uint32_t)(i >> 1)) : random >> 16;           \
        codes[i] = (TYPE)code_of(et_bits_f32(g[i]), factor, levels, random & 0xFFFFu);          \
    }
#else
#define SAMPLE(TYPE)                                                                            \
    for (const size_t end = i + size; i < end; ++i) {                                           \
        random = et_random_at(key, (uint32_t)(i >> 1)) >> (i % 2u * 16u);                       \
        codes[i] = (TYPE)code_of(et_bits_f32(g[i]), factor, levels, random & 0xFFFFu);          \
    }
#endif

#define CODES(TYPE, LARGEST)                                                                    \
    if (levels == 0u || levels > LARGEST || g == NULL || codes == NULL || scale == NULL)        \
        return ET_BAD_ARGUMENT;                                                                 \
    const et_random_key_t key = et_random_key(seed, step, stream);                              \
    size_t i = 0;                                                                               \
    uint32_t random = 0;                                                                        \
    for (size_t n = 0; n < batch; ++n) {                                                        \
        const factor_t factor = factor_of(size, levels, g + i, scale + n);                      \
        SAMPLE(TYPE)                                                                            \
    }                                                                                           \
    return ET_OK

et_status et_dorefa_gradient_i8(size_t batch, size_t size, uint32_t levels, uint32_t seed, uint32_t step,
    uint32_t stream, const float *g, int8_t *codes, float *scale)
{
    CODES(int8_t, 127u);
}

et_status et_dorefa_gradient_i16(size_t batch, size_t size, uint32_t levels, uint32_t seed, uint32_t step,
    uint32_t stream, const float *g, int16_t *codes, float *scale)
{
    CODES(int16_t, 255u);
}
