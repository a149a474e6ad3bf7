/* Weights that train in 16 bits: what a stored number stands for, and stochastic rounding as a new value is stored.
 * toolkit/numerics/stored.py is the same in NumPy.
 *
 *   fixed16  int16 s   stands for s * 2^exponent; s in [-32767, 32767]
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

#endif
