/* binary16 and bfloat16 (numerics N6): rounding to them, their values, and the multiply-add of binary16.
 *
 *   fp16  uint16  IEEE binary16, subnormals kept
 *   bf16  uint16  the upper half of a binary32
 * Rounding is to the nearest, ties to even; what is too large becomes infinite; every NaN becomes the one positive quiet
 * NaN without payload, as the fcvt instructions have it. The bits are the same with Zfh and without.
 */
#ifndef ET_HALF_H
#define ET_HALF_H

#include "et_math.h"

#if defined(__riscv_zfh) && defined(__clang__) && !ET_PORTABLE_MATH
#define ET_HAS_ZFH 1
#else
#define ET_HAS_ZFH 0
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
    union { _Float16 value; uint16_t bits; } both;
    both.value = (_Float16)x;
    return both.bits;
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
    union { uint16_t bits; _Float16 value; } both;
    both.bits = bits;
    return (float)both.value;
#else
    const uint32_t sign = ((uint32_t)bits & 0x8000u) << 16, magnitude = (uint32_t)bits & 0x7FFFu;
    if (magnitude - 0x400u < 0x7800u) /* normal */
        return et_from_bits_f32(sign | ((magnitude << 13) + 0x38000000u));
    if (magnitude >= 0x7C00u)
        return et_from_bits_f32(sign | ET_INFINITY_BITS | magnitude << 13);
    return et_from_bits_f32(sign | et_bits_f32((float)(int32_t)magnitude * 0x1p-24f));
#endif
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
