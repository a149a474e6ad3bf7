/* Sixteen exact sums of products of integer codes, side by side. Not for callers, and not for scalar cores.
 *
 * et_sums holds int32 sums, et_wide_sums those of int16 codes that need 64 bits. Where vectors are wide these are
 * registers; elsewhere arrays, which the compiler may turn into lanes. Wide sums are doubles in vectors: products of
 * int16 are below 2^30, so 2^23 of them are summed without rounding.
 *
 * et_pairs holds sixteen pairs of codes as int16; a product with one pair, the first code in the lower half of an int32,
 * adds two products to each sum.
 */
#ifndef ET_SUM_LANES_H
#define ET_SUM_LANES_H

#include <string.h>

#include "et_tile.h"

#define ET_SUM_LANES 16

#if ET_LANES == 16

typedef __m512i et_sums;

typedef struct {
    __m512d low;
    __m512d high;
} et_wide_sums;

static inline et_sums et_sums_of(int32_t value)
{
    return _mm512_set1_epi32(value);
}

static inline et_sums et_sums_of_int8_t(const int8_t *codes)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)codes));
}

static inline et_sums et_sums_of_int16_t(const int16_t *codes)
{
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)codes));
}

static inline et_sums et_sums_add(et_sums a, et_sums b, et_sums sums)
{
    return _mm512_add_epi32(_mm512_mullo_epi32(a, b), sums);
}

static inline void et_sums_store(int32_t *to, et_sums sums)
{
    _mm512_storeu_si512(to, sums);
}

typedef __m512i et_pairs;

static inline et_pairs et_pairs_of_int8_t(const int8_t *a, const int8_t *b)
{
    const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)a);
    const __m128i y = _mm_loadu_si128((const __m128i *)(const void *)b);
    const __m256i all = _mm256_set_m128i(_mm_unpackhi_epi8(x, y), _mm_unpacklo_epi8(x, y));
    return _mm512_cvtepi8_epi16(all);
}

static inline et_pairs et_pairs_of_int16_t(const int16_t *a, const int16_t *b)
{
    const __m512i low = _mm512_and_si512(et_sums_of_int16_t(a), _mm512_set1_epi32(0xFFFF));
    return _mm512_or_si512(low, _mm512_slli_epi32(et_sums_of_int16_t(b), 16));
}

static inline et_sums et_sums_add_pairs(et_pairs a, int32_t pair, et_sums sums)
{
#if defined(__AVX512VNNI__)
    return _mm512_dpwssd_epi32(sums, a, _mm512_set1_epi32(pair));
#else
    return _mm512_add_epi32(_mm512_madd_epi16(a, _mm512_set1_epi32(pair)), sums);
#endif
}

static inline et_wide_sums et_wide_sums_of(int32_t value)
{
    const et_wide_sums sums = {_mm512_set1_pd(value), _mm512_set1_pd(value)};
    return sums;
}

static inline et_wide_sums et_wide_sums_of_int16_t(const int16_t *codes)
{
    const __m512i all = et_sums_of_int16_t(codes);
    const et_wide_sums sums = {_mm512_cvtepi32_pd(_mm512_castsi512_si256(all)),
                               _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(all, 1))};
    return sums;
}

static inline et_wide_sums et_wide_sums_add(et_wide_sums a, et_wide_sums b, et_wide_sums sums)
{
    const et_wide_sums all = {_mm512_fmadd_pd(a.low, b.low, sums.low), _mm512_fmadd_pd(a.high, b.high, sums.high)};
    return all;
}

static inline void et_wide_sums_store(int64_t *to, et_wide_sums sums)
{
    double all[ET_SUM_LANES];
    _mm512_storeu_pd(all, sums.low);
    _mm512_storeu_pd(all + 8, sums.high);
    for (int32_t j = 0; j < ET_SUM_LANES; ++j)
        to[j] = (int64_t)all[j];
}

#elif ET_LANES == 8

typedef struct {
    __m256i low;
    __m256i high;
} et_sums;

typedef struct {
    __m256d a;
    __m256d b;
    __m256d c;
    __m256d d;
} et_wide_sums;

static inline et_sums et_sums_of(int32_t value)
{
    const et_sums sums = {_mm256_set1_epi32(value), _mm256_set1_epi32(value)};
    return sums;
}

static inline et_sums et_sums_of_int8_t(const int8_t *codes)
{
    const __m128i all = _mm_loadu_si128((const __m128i *)(const void *)codes);
    const et_sums sums = {_mm256_cvtepi8_epi32(all), _mm256_cvtepi8_epi32(_mm_srli_si128(all, 8))};
    return sums;
}

static inline et_sums et_sums_of_int16_t(const int16_t *codes)
{
    const et_sums sums = {_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)codes)),
                          _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)(const void *)(codes + 8)))};
    return sums;
}

static inline et_sums et_sums_add(et_sums a, et_sums b, et_sums sums)
{
    const et_sums all = {_mm256_add_epi32(_mm256_mullo_epi32(a.low, b.low), sums.low),
                         _mm256_add_epi32(_mm256_mullo_epi32(a.high, b.high), sums.high)};
    return all;
}

static inline void et_sums_store(int32_t *to, et_sums sums)
{
    _mm256_storeu_si256((__m256i *)(void *)to, sums.low);
    _mm256_storeu_si256((__m256i *)(void *)(to + 8), sums.high);
}

typedef et_sums et_pairs;

static inline et_pairs et_pairs_of_int8_t(const int8_t *a, const int8_t *b)
{
    const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)a);
    const __m128i y = _mm_loadu_si128((const __m128i *)(const void *)b);
    const et_pairs pairs = {_mm256_cvtepi8_epi16(_mm_unpacklo_epi8(x, y)),
                            _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(x, y))};
    return pairs;
}

static inline et_pairs et_pairs_of_int16_t(const int16_t *a, const int16_t *b)
{
    const et_sums x = et_sums_of_int16_t(a), y = et_sums_of_int16_t(b);
    const __m256i lower = _mm256_set1_epi32(0xFFFF);
    const et_pairs pairs = {_mm256_or_si256(_mm256_and_si256(x.low, lower), _mm256_slli_epi32(y.low, 16)),
                            _mm256_or_si256(_mm256_and_si256(x.high, lower), _mm256_slli_epi32(y.high, 16))};
    return pairs;
}

static inline et_sums et_sums_add_pairs(et_pairs a, int32_t pair, et_sums sums)
{
    const __m256i both = _mm256_set1_epi32(pair);
    const et_sums all = {_mm256_add_epi32(_mm256_madd_epi16(a.low, both), sums.low),
                         _mm256_add_epi32(_mm256_madd_epi16(a.high, both), sums.high)};
    return all;
}

static inline et_wide_sums et_wide_sums_of(int32_t value)
{
    const __m256d one = _mm256_set1_pd(value);
    const et_wide_sums sums = {one, one, one, one};
    return sums;
}

static inline et_wide_sums et_wide_sums_of_int16_t(const int16_t *codes)
{
    const et_sums all = et_sums_of_int16_t(codes);
    const et_wide_sums sums = {_mm256_cvtepi32_pd(_mm256_castsi256_si128(all.low)),
                               _mm256_cvtepi32_pd(_mm256_extracti128_si256(all.low, 1)),
                               _mm256_cvtepi32_pd(_mm256_castsi256_si128(all.high)),
                               _mm256_cvtepi32_pd(_mm256_extracti128_si256(all.high, 1))};
    return sums;
}

static inline et_wide_sums et_wide_sums_add(et_wide_sums x, et_wide_sums y, et_wide_sums sums)
{
    const et_wide_sums all = {_mm256_fmadd_pd(x.a, y.a, sums.a), _mm256_fmadd_pd(x.b, y.b, sums.b),
                              _mm256_fmadd_pd(x.c, y.c, sums.c), _mm256_fmadd_pd(x.d, y.d, sums.d)};
    return all;
}

static inline void et_wide_sums_store(int64_t *to, et_wide_sums sums)
{
    double all[ET_SUM_LANES];
    _mm256_storeu_pd(all, sums.a);
    _mm256_storeu_pd(all + 4, sums.b);
    _mm256_storeu_pd(all + 8, sums.c);
    _mm256_storeu_pd(all + 12, sums.d);
    for (int32_t j = 0; j < ET_SUM_LANES; ++j)
        to[j] = (int64_t)all[j];
}

#else

#define ET_DEFINE_SUM_ARRAY(NAME, SUM)                                       \
    typedef struct {                                                         \
        SUM at[ET_SUM_LANES];                                                \
    } NAME;                                                                  \
    static inline NAME NAME##_of(int32_t value)                              \
    {                                                                        \
        NAME sums;                                                           \
        for (int32_t j = 0; j < ET_SUM_LANES; ++j)                           \
            sums.at[j] = value;                                              \
        return sums;                                                         \
    }                                                                        \
    static inline NAME NAME##_add(NAME a, NAME b, NAME sums)                 \
    {                                                                        \
        for (int32_t j = 0; j < ET_SUM_LANES; ++j)                           \
            sums.at[j] += (int32_t)a.at[j] * (int32_t)b.at[j];               \
        return sums;                                                         \
    }                                                                        \
    static inline void NAME##_store(SUM *to, NAME sums)                      \
    {                                                                        \
        for (int32_t j = 0; j < ET_SUM_LANES; ++j)                           \
            to[j] = sums.at[j];                                              \
    }
#define ET_DEFINE_SUM_LOAD(NAME, CODE)                    \
    static inline NAME NAME##_of_##CODE(const CODE *codes) \
    {                                                     \
        NAME sums;                                        \
        for (int32_t j = 0; j < ET_SUM_LANES; ++j)        \
            sums.at[j] = codes[j];                        \
        return sums;                                      \
    }
ET_DEFINE_SUM_ARRAY(et_sums, int32_t)
ET_DEFINE_SUM_LOAD(et_sums, int8_t)
ET_DEFINE_SUM_LOAD(et_sums, int16_t)
ET_DEFINE_SUM_ARRAY(et_wide_sums, int64_t)
ET_DEFINE_SUM_LOAD(et_wide_sums, int16_t)

#endif

#if ET_LANES > 4

/* pairs[m] = a[m] and b[m], m < 4. */
static inline void et_four_pairs_of_int8_t(const int8_t *a, const int8_t *b, int32_t *pairs)
{
    int32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    const __m128i all = _mm_cvtepi8_epi16(_mm_unpacklo_epi8(_mm_cvtsi32_si128(x), _mm_cvtsi32_si128(y)));
    _mm_storeu_si128((__m128i *)(void *)pairs, all);
}

static inline void et_four_pairs_of_int16_t(const int16_t *a, const int16_t *b, int32_t *pairs)
{
    const __m128i x = _mm_loadl_epi64((const __m128i *)(const void *)a);
    const __m128i y = _mm_loadl_epi64((const __m128i *)(const void *)b);
    _mm_storeu_si128((__m128i *)(void *)pairs, _mm_unpacklo_epi16(x, y));
}

/* pairs[m] = a[2 m] and a[2 m + 1], m < 4. */
static inline void et_next_pairs_of_int8_t(const int8_t *a, int32_t *pairs)
{
    const __m128i all = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)a));
    _mm_storeu_si128((__m128i *)(void *)pairs, all);
}

#else

static inline int32_t et_pair(int32_t a, int32_t b)
{
    return (int32_t)(((uint32_t)a & 0xFFFFu) | (uint32_t)b << 16);
}

typedef struct {
    int16_t a[ET_SUM_LANES];
    int16_t b[ET_SUM_LANES];
} et_pairs;

static inline et_sums et_sums_add_pairs(et_pairs x, int32_t pair, et_sums sums)
{
    const int32_t a = (int16_t)((uint32_t)pair & 0xFFFFu), b = pair >> 16;
    for (int32_t j = 0; j < ET_SUM_LANES; ++j)
        sums.at[j] += x.a[j] * a + x.b[j] * b;
    return sums;
}

#define ET_DEFINE_PAIRS(CODE)                                                                         \
    static inline et_pairs et_pairs_of_##CODE(const CODE *a, const CODE *b)                           \
    {                                                                                                 \
        et_pairs pairs;                                                                               \
        for (int32_t j = 0; j < ET_SUM_LANES; ++j) {                                                  \
            pairs.a[j] = a[j];                                                                        \
            pairs.b[j] = b[j];                                                                        \
        }                                                                                             \
        return pairs;                                                                                 \
    }                                                                                                 \
    static inline void et_four_pairs_of_##CODE(const CODE *a, const CODE *b, int32_t *pairs)          \
    {                                                                                                 \
        for (int32_t m = 0; m < 4; ++m)                                                               \
            pairs[m] = et_pair(a[m], b[m]);                                                           \
    }
ET_DEFINE_PAIRS(int8_t)
ET_DEFINE_PAIRS(int16_t)

static inline void et_next_pairs_of_int8_t(const int8_t *a, int32_t *pairs)
{
    for (int32_t m = 0; m < 4; ++m)
        pairs[m] = et_pair(a[2 * m], a[2 * m + 1]);
}

#endif

#endif
