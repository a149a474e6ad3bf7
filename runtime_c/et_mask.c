/* See et_mask.h. */
#include "et_mask.h"

#include "et_block.h"
#include "et_each.h"
#include "et_math.h"
#include "et_share.h"

/* Where a comparison of 16 elements gives one bit each. */
#if defined(__AVX512F__)
#include <immintrin.h>
#define WIDE_MASKS 1
#else
#define WIDE_MASKS 0
#endif

#define MOST_BITS 4
#define TOGETHER 8u /* elements that fill whole bytes, whatever the number of bits */

/* Whether x > border. Without float instructions the bits are compared: those of negative numbers are turned around, so
 * that they ascend as the numbers do, and -0 is not above +0 because the border is never -0. */
#if defined(__riscv_float_abi_soft) && !defined(__riscv_flen)
typedef int32_t key;

static inline key key_of(float x)
{
    const uint32_t bits = et_bits_f32(x);
    return (bits & ET_SIGN_BIT) != 0u ? (int32_t)(ET_SIGN_BIT - bits) : (int32_t)bits;
}

static inline bool is_number(float x)
{
    return (et_bits_f32(x) & ~ET_SIGN_BIT) <= ET_INFINITY_BITS;
}
#else
typedef float key;

static inline key key_of(float x)
{
    return x;
}

static inline bool is_number(float x)
{
    (void)x;
    return true; /* a comparison with NaN is false anyway */
}
#endif

/* One border, two codes: bits of `count` elements, at most TOGETHER. */
ET_INLINE uint32_t above_border(size_t count, const float *x, key border)
{
    uint32_t word = 0;
    ET_UNROLL
    for (size_t i = 0; i < count; ++i)
        word |= (key_of(x[i]) > border && is_number(x[i]) ? 1u : 0u) << i;
    return word;
}

static uint32_t code_of(const et_mask_bins *bins, float x)
{
    const key here = key_of(x);
    int32_t above = 0;
    if (is_number(x))
        while (above < bins->borders && here > key_of(bins->border[above]))
            ++above;
    return bins->code[above];
}

et_status et_mask_f32(const et_mask_bins *bins, size_t count, const float *x, uint8_t *mask)
{
    if (bins == NULL || bins->bits < 1 || bins->bits > MOST_BITS || bins->borders < 1 || x == NULL || mask == NULL)
        return ET_BAD_ARGUMENT;
    const uint32_t bits = (uint32_t)bins->bits;
    const size_t first = et_share_elements(&count);
    x += first;
    mask += first / TOGETHER * bits;
    const bool one_border = bits == 1u && bins->borders == 1 && bins->code[0] == 0u && bins->code[1] == 1u;
    const key border = key_of(bins->border[0]);

    size_t i = 0;
#if WIDE_MASKS
    for (; one_border && count - i >= 2u * TOGETHER; i += 2u * TOGETHER) {
        const uint32_t above =
            _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), _mm512_set1_ps(border), _CMP_GT_OQ);
        *mask++ = (uint8_t)above;
        *mask++ = (uint8_t)(above >> 8);
    }
#endif
    if (one_border)
        for (; count - i >= TOGETHER; i += TOGETHER)
            *mask++ = (uint8_t)above_border(TOGETHER, x + i, border);
    while (i < count) {
        const size_t here = count - i < TOGETHER ? count - i : TOGETHER;
        uint32_t word = 0;
        for (size_t j = 0; j < here; ++j)
            word |= code_of(bins, x[i + j]) << (j * bits);
        for (size_t byte = 0; byte * 8u < here * bits; ++byte)
            *mask++ = (uint8_t)(word >> (byte * 8u));
        i += here;
    }
    return ET_OK;
}

et_status et_mask_gradient_f32(
    const et_mask_factors *factors, size_t count, const float *dy, const uint8_t *mask, float *dx)
{
    if (factors == NULL || factors->bits < 1 || factors->bits > MOST_BITS || factors->factor == NULL || dy == NULL
        || mask == NULL || dx == NULL)
        return ET_BAD_ARGUMENT;
    const uint32_t bits = (uint32_t)factors->bits, all = (1u << bits) - 1u;
    for (size_t i = 0; i < count;) {
        const size_t here = count - i < TOGETHER ? count - i : TOGETHER;
        uint32_t word = 0;
        for (size_t byte = 0; byte * 8u < here * bits; ++byte)
            word |= (uint32_t)*mask++ << (byte * 8u);
        for (size_t end = i + here; i < end; ++i, word >>= bits) {
            const float factor = factors->factor[word & all];
            dx[i] = (et_bits_f32(factor) & ~ET_SIGN_BIT) != 0u ? factor * dy[i] : 0.0f;
        }
    }
    return ET_OK;
}

/* At most TOGETHER elements; a constant but for the last of them. dx may be dy. */
#if ET_SCALAR_CORE
/* What passes is there already: only zeros are written. */
ET_INLINE void pass_some(size_t count, const float *dy, uint32_t byte, float *dx)
{
    if (dx != dy) {
        ET_UNROLL
        for (size_t i = 0; i < count; ++i)
            dx[i] = dy[i];
    }
    ET_UNROLL
    for (size_t i = 0; i < count; ++i)
        if ((byte & 1u << i) == 0u)
            dx[i] = 0.0f;
}
#else
/* All are read before the first is written. Without branches, which random masks would mislead. */
ET_INLINE void pass_some(size_t count, const float *dy, uint32_t byte, float *dx)
{
    uint32_t passed[TOGETHER];
    ET_UNROLL
    for (size_t i = 0; i < count; ++i)
        passed[i] = et_bits_f32(dy[i]) & (0u - (byte >> i & 1u));
    ET_UNROLL
    for (size_t i = 0; i < count; ++i)
        dx[i] = et_from_bits_f32(passed[i]);
}
#endif

et_status et_pass_masked_f32(size_t count, const float *dy, const uint8_t *mask, float *dx)
{
    if (dy == NULL || mask == NULL || dx == NULL)
        return ET_BAD_ARGUMENT;
    const size_t first = et_share_elements(&count);
    dy += first;
    mask += first / TOGETHER;
    dx += first;
#if WIDE_MASKS
    for (; count >= 2u * TOGETHER; count -= 2u * TOGETHER, mask += 2, dy += 2u * TOGETHER, dx += 2u * TOGETHER)
        _mm512_storeu_ps(dx, _mm512_maskz_loadu_ps((__mmask16)(mask[0] | mask[1] << 8), dy));
#endif
    for (; count >= TOGETHER; count -= TOGETHER, ++mask, dy += TOGETHER, dx += TOGETHER)
        pass_some(TOGETHER, dy, *mask, dx);
    if (count > 0)
        pass_some(count, dy, *mask, dx);
    return ET_OK;
}
