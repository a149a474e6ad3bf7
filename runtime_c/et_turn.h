/* Turned matrices: rows become columns. For vector builds on hosts; not for callers. */
#ifndef ET_TURN_H
#define ET_TURN_H

#include "et_block.h"
#include "et_lanes.h"

#if ET_LANES == 16

/* Before loops over 16 vectors, which else would not be in registers. */
#if defined(__clang__)
#define ET_UNROLL_16 _Pragma("clang loop unroll(full)")
#else
#define ET_UNROLL_16 _Pragma("GCC unroll 16")
#endif

/* Pairs of lanes from two vectors, of the low or the high half of every four lanes. */
static inline __m512 et_low_pairs(__m512 a, __m512 b)
{
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

static inline __m512 et_high_pairs(__m512 a, __m512 b)
{
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
}

/* 16 rows of 16, `pitch` apart, turned: lane j of v[i] is element i of row j. */
ET_INLINE void et_turn_16(const float *rows, ptrdiff_t pitch, __m512 *v)
{
    __m512 t[16];
    ET_UNROLL_16
    for (int i = 0; i < 16; i += 4) {
        const float *row = rows + i * pitch;
        const __m512 a = _mm512_loadu_ps(row), b = _mm512_loadu_ps(row + pitch);
        const __m512 c = _mm512_loadu_ps(row + 2 * pitch), d = _mm512_loadu_ps(row + 3 * pitch);
        const __m512 ab = _mm512_unpacklo_ps(a, b), ab_high = _mm512_unpackhi_ps(a, b);
        const __m512 cd = _mm512_unpacklo_ps(c, d), cd_high = _mm512_unpackhi_ps(c, d);
        t[i] = et_low_pairs(ab, cd);
        t[i + 1] = et_high_pairs(ab, cd);
        t[i + 2] = et_low_pairs(ab_high, cd_high);
        t[i + 3] = et_high_pairs(ab_high, cd_high);
    }
    ET_UNROLL_16
    for (int i = 0; i < 4; i++) {
        const __m512 even = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), odd = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xDD);
        const __m512 even_high = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
        const __m512 odd_high = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xDD);
        v[i] = _mm512_shuffle_f32x4(even, even_high, 0x88);
        v[i + 4] = _mm512_shuffle_f32x4(odd, odd_high, 0x88);
        v[i + 8] = _mm512_shuffle_f32x4(even, even_high, 0xDD);
        v[i + 12] = _mm512_shuffle_f32x4(odd, odd_high, 0xDD);
    }
}

#endif

#if ET_LANES >= 8

/* Four floats of a row and of the fourth row behind it. */
static inline __m256 et_two_quarters(const float *row, ptrdiff_t pitch)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row)), _mm_loadu_ps(row + 4 * pitch), 1);
}

static inline void et_store_pairs(float *to, __m256 a, __m256 b)
{
    const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
    _mm256_storeu_ps(to, _mm256_castpd_ps(_mm256_unpacklo_pd(x, y)));
    _mm256_storeu_ps(to + ET_PANEL, _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
}

/* Four columns of 8 rows: to[k * 16 + j] = from[j * pitch + k]. Halves come together as they are loaded, which takes no
 * shuffle. */
static inline void et_turn_8_by_4(const float *from, ptrdiff_t pitch, float *to)
{
    const __m256 a = et_two_quarters(from, pitch), b = et_two_quarters(from + pitch, pitch);
    const __m256 c = et_two_quarters(from + 2 * pitch, pitch), d = et_two_quarters(from + 3 * pitch, pitch);
    et_store_pairs(to, _mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
    et_store_pairs(to + 2 * ET_PANEL, _mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
}

#endif

/* to[k * 16 + j] = from[j * pitch + k] for up to 16 columns j; the other columns of `to` stay as they are. */
static inline void et_turn_panel(int32_t columns, int32_t steps, const float *from, ptrdiff_t pitch, float *to)
{
    int32_t turned = 0; /* columns */
#if ET_LANES >= 8
    const int32_t whole = steps & ~3;
    for (int32_t k = 0; k < whole; k += 4)
        for (int32_t j = 0; j + 8 <= columns; j += 8)
            et_turn_8_by_4(from + j * pitch + k, pitch, to + k * ET_PANEL + j);
    turned = columns & ~7;
    for (int32_t k = whole; k < steps; k++)
        for (int32_t j = 0; j < turned; j++)
            to[k * ET_PANEL + j] = from[j * pitch + k];
#endif
    for (int32_t j = turned; j < columns; j++)
        for (int32_t k = 0; k < steps; k++)
            to[k * ET_PANEL + j] = from[j * pitch + k];
}

#endif
