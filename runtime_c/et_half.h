/* binary16 and bfloat16 (numerics N6): rounding to them, their values, and the multiply-add of binary16.
 *
 *   fp16  uint16  IEEE binary16, subnormals kept
 *   bf16  uint16  the upper half of a binary32
 * Rounding is to the nearest, ties to even; what is too large becomes infinite; every NaN becomes the one positive quiet
 * NaN without payload, as the fcvt instructions have it. The bits are the same with Zfh, with F16C (x86) and without.
 */
#ifndef ET_HALF_H
#define ET_HALF_H

#include "et_math.h"

#if defined(__riscv_zfh) && (defined(__clang__) || __GNUC__ >= 13) && !ET_PORTABLE_MATH
#define ET_HAS_ZFH 1
__extension__ typedef _Float16 et_float16;
#else
#define ET_HAS_ZFH 0
#endif

#if defined(__F16C__) && defined(__AVX__) && !ET_PORTABLE_MATH
#define ET_HAS_F16C 1
#include <immintrin.h>
#else
#define ET_HAS_F16C 0
#endif

static inline uint16_t et_to_bf16(float x)
{
    const uint32_t bits = et_bits_f32(x);
    if ((bits & ~ET_SIGN_BIT) > ET_INFINITY_BITS)
        return 0x7FC0u;
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

static inline float et_from_bf16(uint16_t bits)
{
    return et_from_bits_f32((uint32_t)bits << 16);
}

static inline uint16_t et_to_fp16(float x)
{
#if ET_HAS_ZFH
    union { et_float16 value; uint16_t bits; } both;
    both.value = (et_float16)x;
    return both.bits;
#elif ET_HAS_F16C
    return x == x ? _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT) : (uint16_t)0x7E00u;
#else
    const uint32_t bits = et_bits_f32(x), sign = bits >> 16 & 0x8000u, magnitude = bits & ~ET_SIGN_BIT;
    if (magnitude >= 0x47800000u) /* 2^16 and more */
        return magnitude > ET_INFINITY_BITS ? (uint16_t)0x7E00u : (uint16_t)(sign | 0x7C00u);
    if (magnitude >= 0x38800000u) /* 2^-14 and more: a carry out of the fraction is the next exponent, or infinity */
        return (uint16_t)(sign | (magnitude - 0x38000000u + 0xFFFu + (magnitude >> 13 & 1u)) >> 13);
    if (magnitude <= 0x33000000u) /* 2^-25 is a tie with 0 */
        return (uint16_t)sign;
    const uint32_t fraction = (magnitude & 0x7FFFFFu) | 0x800000u, drop = 126u - (magnitude >> 23);
    const uint32_t whole = fraction >> drop, rest = fraction & ((1u << drop) - 1u), tie = 1u << (drop - 1u);
    return (uint16_t)(sign | (whole + (rest > tie || (rest == tie && (whole & 1u) != 0u) ? 1u : 0u)));
#endif
}

static inline float et_from_fp16(uint16_t bits)
{
#if ET_HAS_ZFH
    union { uint16_t bits; et_float16 value; } both;
    both.bits = bits;
    return (float)both.value;
#elif ET_HAS_F16C
    return _cvtsh_ss(bits);
#else
    const uint32_t sign = ((uint32_t)bits & 0x8000u) << 16, magnitude = (uint32_t)bits & 0x7FFFu;
    if (magnitude - 0x400u < 0x7800u) /* normal */
        return et_from_bits_f32(sign | ((magnitude << 13) + 0x38000000u));
    if (magnitude >= 0x7C00u)
        return et_from_bits_f32(sign | ET_INFINITY_BITS | magnitude << 13);
    return et_from_bits_f32(sign | et_bits_f32((float)(int32_t)magnitude * 0x1p-24f));
#endif
}

/* y[i] = factor * x[i], rounded to float32 and then to binary16. */
static inline void et_to_fp16_row(ptrdiff_t count, float factor, const float *x, uint16_t *y)
{
    ptrdiff_t i = 0;
#if ET_HAS_F16C
    const __m256 scale = _mm256_set1_ps(factor), not_a_number = _mm256_set1_ps(ET_NAN);
    for (; i + 8 <= count; i += 8) {
        const __m256 scaled = _mm256_mul_ps(scale, _mm256_loadu_ps(x + i));
        const __m256 value = _mm256_blendv_ps(scaled, not_a_number, _mm256_cmp_ps(scaled, scaled, _CMP_UNORD_Q));
        _mm_storeu_si128((__m128i *)(void *)(y + i), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    for (; i < count; i++)
        y[i] = et_to_fp16(factor * x[i]);
}

/* y[i] = x[i] */
static inline void et_from_fp16_row(ptrdiff_t count, const uint16_t *x, float *y)
{
    ptrdiff_t i = 0;
#if ET_HAS_F16C
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(x + i))));
#endif
    for (; i < count; i++)
        y[i] = et_from_fp16(x[i]);
}

/* y[i] = x[i] rounded to binary16; x and y may be the same. */
static inline void et_round_fp16_row(ptrdiff_t count, const float *x, float *y)
{
    ptrdiff_t i = 0;
#if ET_HAS_F16C
    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT)));
#endif
    for (; i < count; i++)
        y[i] = et_from_fp16(et_to_fp16(x[i]));
}

/* a * b + s rounded once to binary16; a, b and s are values of binary16. The product is exact in float32; the sum is
 * rounded to odd, two bits and more beyond those that are kept, so that rounding it again is rounding once. */
static inline float et_madd_fp16(float a, float b, float s)
{
    const float product = a * b, sum = product + s, back = sum - product;
    const float error = (product - (sum - back)) + (s - back);
    uint32_t bits = et_bits_f32(sum);
    if ((error > 0.0f || error < 0.0f) && (bits & 1u) == 0u)
        bits = (error > 0.0f) == (sum > 0.0f) ? bits + 1u : bits - 1u;
    return et_from_fp16(et_to_fp16(et_from_bits_f32(bits)));
}

#endif
