/* Weights that train in 16 bits: what a stored number stands for, and stochastic rounding as a new value is stored.
 * toolkit/numerics/stored.py is the same in NumPy.
 *
 *   fixed16  int16 s   stands for s * 2^exponent; s in [-32767, 32767]
 *   fp16     uint16    IEEE binary16, subnormals kept
 *   bf16     uint16    the upper half of a binary32
 * Beyond the range is stored as its end.
 */
#ifndef ET_STORED_H
#define ET_STORED_H

#include "et_math.h"
#include "et_random.h"

/* 2^exponent, for exponents from -126 to 127. */
static inline float et_power_of_two_f32(int32_t exponent)
{
    return et_from_bits_f32((uint32_t)(exponent + 127) << 23);
}

/* `scaled` is the value divided by 2^exponent. floor(scaled), plus 1 where u < scaled - floor(scaled), with u the upper
 * 24 bits of `random` / 2^24. Beyond the range its nearest end; NaN gives 32767. */
static inline int16_t et_store_fixed16(float scaled, uint32_t random)
{
    if (scaled <= -32767.0f)
        return -32767;
    if (!(scaled < 32767.0f))
        return 32767;
    int32_t whole = (int32_t)scaled;
    if ((float)whole > scaled)
        --whole;
    const float fraction = scaled - (float)whole;
    const float unit = (float)(int32_t)(random >> 8) * 0x1p-24f;
    return (int16_t)(unit < fraction ? whole + 1 : whole);
}

/* The bits of the magnitude plus the upper 16 of `random`, cut off; NaN stays NaN. */
static inline uint16_t et_store_bf16(float value, uint32_t random)
{
    const uint32_t bits = et_bits_f32(value), magnitude = bits & 0x7FFFFFFFu, sign = (bits >> 16) & 0x8000u;
    if (magnitude > ET_INFINITY_BITS)
        return (uint16_t)(sign | 0x7FC0u);
    const uint32_t rounded = (magnitude + (random >> 16)) >> 16;
    return (uint16_t)(sign | (rounded > 0x7F7Fu ? 0x7F7Fu : rounded));
}

/* The bits of the magnitude plus as many of the upper bits of `random` as are dropped (at most 24), cut off; NaN stays
 * NaN. */
static inline uint16_t et_store_fp16(float value, uint32_t random)
{
    const uint32_t bits = et_bits_f32(value), magnitude = bits & 0x7FFFFFFFu, sign = (bits >> 16) & 0x8000u;
    const uint32_t exponent = magnitude >> 23;
    if (magnitude > ET_INFINITY_BITS)
        return (uint16_t)(sign | 0x7E00u);
    uint32_t rounded = 0;
    if (exponent >= 113u) {
        rounded = (magnitude - (112u << 23) + (random >> 19)) >> 13;
    } else if (exponent != 0u) {
        const uint32_t drop = 126u - exponent, cut = drop > 24u ? drop - 24u : 0u, shift = drop - cut;
        const uint32_t mantissa = cut > 31u ? 0u : ((magnitude & 0x7FFFFFu) | 0x800000u) >> cut;
        rounded = (mantissa + (random >> (32u - shift))) >> shift;
    }
    return (uint16_t)(sign | (rounded > 0x7BFFu ? 0x7BFFu : rounded));
}

static inline float et_load_bf16(uint16_t stored)
{
    return et_from_bits_f32((uint32_t)stored << 16);
}

static inline float et_load_fp16(uint16_t stored)
{
    const uint32_t sign = ((uint32_t)stored & 0x8000u) << 16, exponent = ((uint32_t)stored >> 10) & 31u;
    const uint32_t fraction = (uint32_t)stored & 0x3FFu;
    if (exponent == 0u) {
        const float magnitude = (float)(int32_t)fraction * 0x1p-24f;
        return sign != 0u ? -magnitude : magnitude;
    }
    return et_from_bits_f32(sign | (exponent == 31u ? 0x7F800000u : (exponent + 112u) << 23) | fraction << 13);
}

#endif
