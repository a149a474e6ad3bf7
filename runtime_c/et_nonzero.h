/* Gradients that are mostly zeros, as behind a pool and a ReLU: when products with them may be left out of a sum, and
 * where the others are. For hosts; not for callers.
 *
 * Let a sum start at +0, or at anything but -0, and add products a * b, some of whose a are zeros. Without those it has
 * the same bits, whatever their signs, if
 *   - all a and b are finite, and
 *   - no product of two numbers other than 0 lies below the grid of float32: with the least exponents e_a and e_b of
 *     normal numbers among a and b, and no subnormal ones, every product is a multiple of 2^(e_a - 23 + e_b - 23), so
 *     e_a + e_b >= -103 makes it one of 2^-149, as every float32 is.
 * For then the accumulator is never -0. With one rounding, a * b + c is a multiple of 2^-149, so it rounds to 0 only if
 * it is 0; and a sum that is exactly 0 is +0 unless both terms are -0, which c is not. With two roundings the second one
 * is such a sum by itself, whatever the product has come to. And what is not -0 stays as it is when a zero of either
 * sign is added; so do infinities and NaN, which sums of finite products may come to. By the same argument a product
 * with a zero b, such as padding, may also be put in.
 */
#ifndef ET_NONZERO_H
#define ET_NONZERO_H

#include "et_lanes.h"
#include "et_math.h"

#if ET_HAS_HALF

/* The largest magnitude, and the least that is not 0, less 1: bits without the sign, shifted to the left. */
typedef struct {
    uint32_t most;
    uint32_t least;
} et_magnitudes;

/* Takes in x; gives how many are not 0. */
static inline uint32_t et_magnitudes_of(et_magnitudes *all, ptrdiff_t count, const float *x)
{
    uint32_t most = all->most, least = all->least, zeros = 0u;
    for (ptrdiff_t i = 0; i < count; i++) {
        const uint32_t twice = et_bits_f32(x[i]) << 1, below = twice - 1u;
        most = twice > most ? twice : most;
        least = below < least ? below : least;
        zeros += twice == 0u ? 1u : 0u;
    }
    all->most = most;
    all->least = least;
    return (uint32_t)count - zeros;
}

/* The exponent of the least number that is not 0, biased by 127; 0 if it is subnormal, 255 if there is none. */
static inline int32_t et_least_exponent(const et_magnitudes *all)
{
    return all->least == UINT32_MAX ? 255 : (int32_t)((all->least + 1u) >> 24);
}

/* Whether sums of products of an a and a b that begin at +0 are the same without the products that are 0. */
static inline bool et_zeros_add_nothing(const et_magnitudes *a, const et_magnitudes *b)
{
    const int32_t least_a = et_least_exponent(a), least_b = et_least_exponent(b);
    return a->most < 0xFF000000u && b->most < 0xFF000000u && least_a > 0 && least_b > 0
           && least_a + least_b >= 2 * 127 - 103;
}

/* Whether no sum of at most 2^20 products of an a and a b can become infinite or NaN: with exponents of at most e_a and
 * e_b, the magnitude of the i-th partial sum is at most i * 2^(e_a + e_b + 2), which no rounding exceeds, as it is a
 * float32 itself. */
static inline bool et_sums_stay_finite(const et_magnitudes *a, const et_magnitudes *b)
{
    return a->most < 0xFF000000u && b->most < 0xFF000000u && (a->most >> 24) + (b->most >> 24) <= 3u * 127u - 2u - 20u;
}

/* Whether products with the zeros of dy may be left out of sums of products of dy and x, and are so many that it pays:
 * 5 of 8. */
static inline bool et_zeros_are_spared(ptrdiff_t count, const float *dy, ptrdiff_t x_count, const float *x)
{
    enum { BLOCK = 1024 }; /* after which a gradient that is full of others is given up */
    et_magnitudes of_dy = {0u, UINT32_MAX}, of_x = {0u, UINT32_MAX};
    ptrdiff_t others = 0;
    for (ptrdiff_t done = 0, size; done < count; done += size) {
        size = count - done < BLOCK ? count - done : BLOCK;
        others += et_magnitudes_of(&of_dy, size, dy + done);
        if (8 * others > 3 * (done + size))
            return false;
    }
    (void)et_magnitudes_of(&of_x, x_count, x);
    return et_zeros_add_nothing(&of_dy, &of_x);
}

/* A bit for each of up to 16 numbers that is not 0. */
static inline uint32_t et_others_of_16(const float *x, et_mask mask)
{
#if ET_LANES == 16
    return _mm512_cmp_ps_mask(et_lanes_load(x, mask), _mm512_setzero_ps(), _CMP_NEQ_UQ);
#else
    const et_lanes a = et_lanes_load(x, mask);
    const int low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    const int high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, _mm256_setzero_ps(), _CMP_NEQ_UQ));
    return (uint32_t)low | (uint32_t)high << 8;
#endif
}

/* Room behind a list, for what is written there without being part of it. */
#define ET_LIST_ROOM 16

/* The `names` whose word has bit `bit`, in order; gives how many. `count` is rounded up to a multiple of 16: words
 * behind the last are 0. */
static inline ptrdiff_t et_list_of(int32_t bit, ptrdiff_t count, const uint16_t *words, const uint32_t *names,
                                   uint32_t *list)
{
    uint32_t *to = list;
#if ET_LANES == 16 && defined(__AVX512BW__)
    const __m128i left = _mm_cvtsi32_si128(15 - bit);
    for (ptrdiff_t i = 0; i < count; i += 16) {
        const __m256i word = _mm256_loadu_si256((const __m256i *)(const void *)(words + i));
        const __mmask16 mask = _mm256_movepi16_mask(_mm256_sll_epi16(word, left));
        _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(mask, _mm512_loadu_si512(names + i)));
        to += __builtin_popcount(mask);
    }
#else
    for (ptrdiff_t i = 0; i < count; i++) {
        *to = names[i];
        to += words[i] >> bit & 1u;
    }
#endif
    return to - list;
}

#endif

#endif
