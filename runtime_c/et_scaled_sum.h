/* An exact integer sum as a float32, times a scale: what ends every sum of products of codes. Not for callers. */
#ifndef ET_SCALED_SUM_H
#define ET_SCALED_SUM_H

#include "et_block.h"
#include "et_math.h"

/* The position of the highest bit that is set; bits is not 0. */
static inline int32_t et_highest_bit(uint32_t bits)
{
#if defined(__riscv_zbb) || !defined(__riscv)
    return 31 - __builtin_clz(bits);
#else
    int32_t place = 0;
    if (bits >> 16 != 0) {
        bits >>= 16;
        place = 16;
    }
    if (bits >> 8 != 0) {
        bits >>= 8;
        place += 8;
    }
    if (bits >> 4 != 0) {
        bits >>= 4;
        place += 4;
    }
    /* Two bits each for 0 to 15: the positions of their highest bits. */
    return place + (int32_t)((0xFFFFAA50u >> (2 * bits)) & 3u);
#endif
}

/* (float)sum * scale, each rounded once (N1).
 * Where float operations are calls: a sum below 2^24 is a float as it is, so one product of mantissas does it. What is
 * rare (larger sums, results near the ends of the range, scales that are not normal) takes the calls. */
static inline float et_scaled_sum_f32(int32_t sum, float scale)
{
#if ET_SCALAR_CORE && !defined(__riscv_flen)
    const uint32_t bits = et_bits_f32(scale), size = sum < 0 ? 0u - (uint32_t)sum : (uint32_t)sum;
    const int32_t scale_exponent = (int32_t)(bits >> 23) & 0xFF;
    if (size == 0 && scale_exponent != 0xFF)
        return et_from_bits_f32(bits & ET_SIGN_BIT);
    if (size < 1u << 24 && scale_exponent != 0 && scale_exponent != 0xFF) {
        const int32_t place = et_highest_bit(size);
        const uint64_t product = (uint64_t)(size << (31 - place)) * ((bits << 8) | 0x80000000u);
        /* The highest 32 bits; what is below only matters for not being 0. */
        uint32_t top = (uint32_t)(product >> 32) | ((uint32_t)product != 0);
        int32_t exponent = scale_exponent + place;
        if (top >> 31 != 0)
            exponent++;
        else
            top <<= 1;
        if (exponent > 0 && exponent < 254) {
            const uint32_t whole = top >> 8, up = ((top & 0xFFu) + 0x7Fu + (whole & 1u)) >> 8;
            const uint32_t sign = ((uint32_t)sum ^ bits) & ET_SIGN_BIT;
            return et_from_bits_f32(sign | ((((uint32_t)exponent - 1u) << 23) + whole + up));
        }
    }
#endif
    return (float)sum * scale;
}

/* et_madd((float)sum, scale, addend). */
static inline float et_scaled_sum_added_f32(int32_t sum, float scale, float addend)
{
#if ET_FMA
    return et_madd((float)sum, scale, addend);
#else
    return et_scaled_sum_f32(sum, scale) + addend;
#endif
}

#endif
