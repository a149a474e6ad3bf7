/* Sixteen exact sums of products of integer codes, side by side. Not for callers, and not for scalar cores.
 *
 * et_sums holds int32 sums, et_wide_sums those of int16 codes that need 64 bits. Where vectors are wide these are
 * registers; elsewhere arrays, which the compiler may turn into lanes. Wide sums are doubles in vectors: products of
 * int16 are below 2^30, so 2^23 of them are summed without rounding.
 */
#ifndef ET_SUM_LANES_H
#define ET_SUM_LANES_H

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

#endif
