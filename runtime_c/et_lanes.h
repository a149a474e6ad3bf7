/* A panel of 16 floats in vector registers: what the tiles of vector builds are made of. Not for callers.
 *
 * Lanes are output channels (or input channels, for their gradient), so each result keeps its own accumulator and the
 * bits are those of the scalar loop (N2). Of a panel that is not full only the first lanes exist: `mask` says which,
 * and what the others hold is never stored.
 *
 *   AVX-512, AVX2   hosts. Panels of 8 lanes or fewer take registers of 8, et_half, which cost half as much there
 *   V               RISC-V cores with registers of 128 bits or more and a compiler that has the intrinsics: four
 *                   registers a panel, and one instruction for each operation on it
 *   none            ET_LANES 1: the scalar tiles; ET_FORCE_SCALAR chooses them anywhere
 */
#ifndef ET_LANES_H
#define ET_LANES_H

#include "et_base.h"

#define ET_PANEL 16 /* columns that lie side by side in packed weights */

/* Lanes of one register. */
#if defined(ET_FORCE_SCALAR)
#define ET_LANES 1
#elif defined(__AVX512F__)
#define ET_LANES 16
#elif defined(__AVX2__) && defined(__FMA__)
#define ET_LANES 8
#elif defined(__riscv_v_intrinsic) && defined(__riscv_v_min_vlen) && defined(__riscv_v_elen_fp)
#if __riscv_v_min_vlen >= 128 && __riscv_v_elen_fp >= 32
#define ET_LANES 4
#else
#define ET_LANES 1
#endif
#else
#define ET_LANES 1
#endif

/* Whether there are registers of 8 lanes as well. */
#if ET_LANES == 8 || (ET_LANES == 16 && defined(__AVX512VL__))
#define ET_HAS_HALF 1
#else
#define ET_HAS_HALF 0
#endif

/* Names of either kind for macros that define a function of it: of the kind that ET_VECTOR says, et_lanes or et_half,
 * ET_V() is the type, ET_V(_set) the operation et_lanes_set or et_half_set, and so on. */
#define ET_JOIN_(kind, rest) kind##rest
#define ET_JOIN(kind, rest) ET_JOIN_(kind, rest)
#define ET_V(rest) ET_JOIN(ET_VECTOR, rest)

#if ET_LANES == 4

#include <riscv_vector.h>

typedef vfloat32m4_t et_lanes;
typedef size_t et_mask;   /* how many lanes exist */
typedef float et_factor;  /* one number for all lanes: instructions take it from a scalar register */

/* Before a loop over the steps of a reduction: sources of several steps are then read at offsets from one pointer. */
#if defined(__clang__)
#define ET_UNROLL_STEPS _Pragma("clang loop unroll_count(4)")
#else
#define ET_UNROLL_STEPS _Pragma("GCC unroll 4")
#endif

static inline et_factor et_factor_of(float value, et_mask mask)
{
    (void)mask;
    return value;
}

static inline et_mask et_mask_first(int32_t count)
{
    return (et_mask)count;
}

static inline et_lanes et_lanes_set(float value, et_mask mask)
{
    return __riscv_vfmv_v_f_f32m4(value, mask);
}

static inline et_lanes et_lanes_load(const float *p, et_mask mask)
{
    return __riscv_vle32_v_f32m4(p, mask);
}

/* Lane j from p[j * step]. */
static inline et_lanes et_lanes_gather(const float *p, ptrdiff_t step, et_mask mask)
{
    return __riscv_vlse32_v_f32m4(p, step * (ptrdiff_t)sizeof(float), mask);
}

static inline void et_lanes_store(float *p, et_mask mask, et_lanes value)
{
    __riscv_vse32_v_f32m4(p, value, mask);
}

static inline bool et_lanes_are_zero(et_lanes a, et_mask mask)
{
    return __riscv_vcpop_m_b8(__riscv_vmfeq_vf_f32m4_b8(a, 0.0f, mask), mask) == mask;
}

static inline et_lanes et_lanes_madd(et_lanes a, et_lanes b, et_lanes c, et_mask mask)
{
#if ET_FMA
    return __riscv_vfmacc_vv_f32m4(c, a, b, mask);
#else
    return __riscv_vfadd_vv_f32m4(__riscv_vfmul_vv_f32m4(a, b, mask), c, mask);
#endif
}

static inline et_lanes et_lanes_add(et_lanes a, et_lanes b, et_mask mask)
{
    return __riscv_vfadd_vv_f32m4(a, b, mask);
}

/* x where x > 0, else +0, for NaN too. */
static inline et_lanes et_lanes_relu(et_lanes x, et_mask mask)
{
    return __riscv_vfmax_vf_f32m4(x, 0.0f, mask);
}

/* x where it is below the ceiling, else that; no NaN. */
static inline et_lanes et_lanes_at_most(et_lanes x, float ceiling, et_mask mask)
{
    return __riscv_vfmin_vf_f32m4(x, ceiling, mask);
}

/* x where the bits of y lie at most `span` above those of `least`, else +0: et_gate.h. */
static inline et_lanes et_lanes_within(et_lanes x, const float *y, uint32_t least, uint32_t span, et_mask mask)
{
    const vuint32m4_t bits = __riscv_vreinterpret_v_f32m4_u32m4(et_lanes_load(y, mask));
    const vbool8_t outside = __riscv_vmsgtu_vx_u32m4_b8(__riscv_vsub_vx_u32m4(bits, least, mask), span, mask);
    return __riscv_vfmerge_vfm_f32m4(x, 0.0f, outside, mask);
}

/* a * b + c with one a. */
static inline et_lanes et_lanes_scale(et_factor a, et_lanes b, et_lanes c, et_mask mask)
{
#if ET_FMA
    return __riscv_vfmacc_vf_f32m4(c, a, b, mask);
#else
    return __riscv_vfadd_vv_f32m4(__riscv_vfmul_vf_f32m4(b, a, mask), c, mask);
#endif
}

#elif ET_LANES > 1

#include <immintrin.h>

#if ET_LANES == 8 || defined(__AVX512VL__)
/* x where the bits of y lie at most `span` above those of `least`, else +0. */
static inline __m256 et_8_within(__m256 x, __m256 y, uint32_t least, uint32_t span)
{
    const __m256i above = _mm256_sub_epi32(_mm256_castps_si256(y), _mm256_set1_epi32((int32_t)least));
    const __m256i least_of_both = _mm256_min_epu32(above, _mm256_set1_epi32((int32_t)span));
    return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_cmpeq_epi32(above, least_of_both)));
}
#endif

#if ET_LANES == 16
typedef __m512 et_lanes;
typedef __mmask16 et_mask;

static inline et_mask et_mask_first(int32_t count)
{
    return (et_mask)(0xFFFFu >> (16 - count));
}

static inline et_lanes et_lanes_set(float value, et_mask mask)
{
    (void)mask;
    return _mm512_set1_ps(value);
}

static inline et_lanes et_lanes_load(const float *p, et_mask mask)
{
    return _mm512_maskz_loadu_ps(mask, p);
}

static inline void et_lanes_store(float *p, et_mask mask, et_lanes value)
{
    _mm512_mask_storeu_ps(p, mask, value);
}

static inline bool et_lanes_are_zero(et_lanes a, et_mask mask)
{
    return _mm512_mask_cmp_ps_mask(mask, a, _mm512_setzero_ps(), _CMP_EQ_OQ) == mask;
}

static inline et_lanes et_lanes_add(et_lanes a, et_lanes b, et_mask mask)
{
    (void)mask;
    return _mm512_add_ps(a, b);
}

static inline et_lanes et_lanes_mul(et_lanes a, et_lanes b)
{
    return _mm512_mul_ps(a, b);
}

static inline et_lanes et_lanes_madd(et_lanes a, et_lanes b, et_lanes c, et_mask mask)
{
    (void)mask;
#if ET_FMA
    return _mm512_fmadd_ps(a, b, c);
#else
    return _mm512_add_ps(_mm512_mul_ps(a, b), c);
#endif
}

/* x where x > 0, else +0, for NaN too. */
static inline et_lanes et_lanes_relu(et_lanes x, et_mask mask)
{
    (void)mask;
    return _mm512_max_ps(x, _mm512_setzero_ps()); /* gives the second where they do not compare */
}

/* x where it is below the ceiling, else that; no NaN. */
static inline et_lanes et_lanes_at_most(et_lanes x, float ceiling, et_mask mask)
{
    (void)mask;
    return _mm512_min_ps(x, _mm512_set1_ps(ceiling));
}

/* x where the bits of y lie at most `span` above those of `least`, else +0: et_gate.h. */
static inline et_lanes et_lanes_within(et_lanes x, const float *y, uint32_t least, uint32_t span, et_mask mask)
{
    const __m512i bits = _mm512_castps_si512(et_lanes_load(y, mask));
    const __m512i above = _mm512_sub_epi32(bits, _mm512_set1_epi32((int32_t)least));
    return _mm512_maskz_mov_ps(_mm512_cmple_epu32_mask(above, _mm512_set1_epi32((int32_t)span)), x);
}
#else
typedef struct {
    __m256 low;
    __m256 high;
} et_lanes;

typedef struct {
    __m256i low;
    __m256i high;
    bool all; /* masked stores are slow on some cores */
} et_mask;

static inline et_mask et_mask_first(int32_t count)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const et_mask mask = {_mm256_cmpgt_epi32(_mm256_set1_epi32(count), index),
                          _mm256_cmpgt_epi32(_mm256_set1_epi32(count - 8), index), count == 16};
    return mask;
}

static inline et_lanes et_lanes_set(float value, et_mask mask)
{
    (void)mask;
    const et_lanes lanes = {_mm256_set1_ps(value), _mm256_set1_ps(value)};
    return lanes;
}

static inline et_lanes et_lanes_load(const float *p, et_mask mask)
{
    const et_lanes lanes = {_mm256_maskload_ps(p, mask.low), _mm256_maskload_ps(p + 8, mask.high)};
    return lanes;
}

static inline void et_lanes_store(float *p, et_mask mask, et_lanes value)
{
    if (mask.all) {
        _mm256_storeu_ps(p, value.low);
        _mm256_storeu_ps(p + 8, value.high);
    } else {
        _mm256_maskstore_ps(p, mask.low, value.low);
        _mm256_maskstore_ps(p + 8, mask.high, value.high);
    }
}

/* Lanes that do not exist are 0 or finite sums of zeros times 0, as loads leave them. */
static inline bool et_lanes_are_zero(et_lanes a, et_mask mask)
{
    (void)mask;
    const __m256 zero = _mm256_setzero_ps();
    const __m256 low = _mm256_cmp_ps(a.low, zero, _CMP_EQ_OQ), high = _mm256_cmp_ps(a.high, zero, _CMP_EQ_OQ);
    return _mm256_movemask_ps(_mm256_and_ps(low, high)) == 0xFF;
}

static inline et_lanes et_lanes_add(et_lanes a, et_lanes b, et_mask mask)
{
    (void)mask;
    const et_lanes sum = {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
    return sum;
}

static inline et_lanes et_lanes_mul(et_lanes a, et_lanes b)
{
    const et_lanes product = {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
    return product;
}

static inline et_lanes et_lanes_madd(et_lanes a, et_lanes b, et_lanes c, et_mask mask)
{
    (void)mask;
#if ET_FMA
    const et_lanes sum = {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
#else
    const et_lanes sum = {_mm256_add_ps(_mm256_mul_ps(a.low, b.low), c.low),
                          _mm256_add_ps(_mm256_mul_ps(a.high, b.high), c.high)};
#endif
    return sum;
}

/* x where x > 0, else +0, for NaN too. */
static inline et_lanes et_lanes_relu(et_lanes x, et_mask mask)
{
    (void)mask;
    const __m256 zero = _mm256_setzero_ps(); /* is given where they do not compare */
    const et_lanes y = {_mm256_max_ps(x.low, zero), _mm256_max_ps(x.high, zero)};
    return y;
}

/* x where it is below the ceiling, else that; no NaN. */
static inline et_lanes et_lanes_at_most(et_lanes x, float ceiling, et_mask mask)
{
    (void)mask;
    const __m256 most = _mm256_set1_ps(ceiling);
    const et_lanes y = {_mm256_min_ps(x.low, most), _mm256_min_ps(x.high, most)};
    return y;
}

/* x where the bits of y lie at most `span` above those of `least`, else +0: et_gate.h. */
static inline et_lanes et_lanes_within(et_lanes x, const float *y, uint32_t least, uint32_t span, et_mask mask)
{
    const et_lanes bits = et_lanes_load(y, mask);
    const et_lanes within = {et_8_within(x.low, bits.low, least, span), et_8_within(x.high, bits.high, least, span)};
    return within;
}
#endif

#define ET_UNROLL_STEPS

typedef et_lanes et_factor;

static inline et_factor et_factor_of(float value, et_mask mask)
{
    return et_lanes_set(value, mask);
}

/* a * b + c with one a. */
static inline et_lanes et_lanes_scale(et_factor a, et_lanes b, et_lanes c, et_mask mask)
{
    return et_lanes_madd(a, b, c, mask);
}

#endif

#if ET_HAS_HALF

typedef __m256 et_half;
typedef __m256 et_half_factor;

#if ET_LANES == 16
typedef __mmask8 et_half_mask;

static inline et_half_mask et_half_mask_first(int32_t count)
{
    return (et_half_mask)(0xFFu >> (8 - count));
}

static inline et_half et_half_load(const float *p, et_half_mask mask)
{
    return _mm256_maskz_loadu_ps(mask, p);
}

static inline void et_half_store(float *p, et_half_mask mask, et_half value)
{
    _mm256_mask_storeu_ps(p, mask, value);
}
#else
typedef struct {
    __m256i lanes;
    bool all;
} et_half_mask;

static inline et_half_mask et_half_mask_first(int32_t count)
{
    const et_half_mask mask = {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), count == 8};
    return mask;
}

static inline et_half et_half_load(const float *p, et_half_mask mask)
{
    return _mm256_maskload_ps(p, mask.lanes);
}

static inline void et_half_store(float *p, et_half_mask mask, et_half value)
{
    if (mask.all)
        _mm256_storeu_ps(p, value);
    else
        _mm256_maskstore_ps(p, mask.lanes, value);
}
#endif

static inline et_half et_half_set(float value, et_half_mask mask)
{
    (void)mask;
    return _mm256_set1_ps(value);
}

static inline et_half_factor et_half_factor_of(float value, et_half_mask mask)
{
    return et_half_set(value, mask);
}

/* Lanes that do not exist are 0 or finite sums of zeros times 0, as loads leave them. */
static inline bool et_half_are_zero(et_half a, et_half_mask mask)
{
    (void)mask;
    return _mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_EQ_OQ)) == 0xFF;
}

static inline et_half et_half_add(et_half a, et_half b, et_half_mask mask)
{
    (void)mask;
    return _mm256_add_ps(a, b);
}

static inline et_half et_half_madd(et_half a, et_half b, et_half c, et_half_mask mask)
{
    (void)mask;
#if ET_FMA
    return _mm256_fmadd_ps(a, b, c);
#else
    return _mm256_add_ps(_mm256_mul_ps(a, b), c);
#endif
}

/* x where x > 0, else +0, for NaN too. */
static inline et_half et_half_relu(et_half x, et_half_mask mask)
{
    (void)mask;
    return _mm256_max_ps(x, _mm256_setzero_ps()); /* gives the second where they do not compare */
}

/* x where it is below the ceiling, else that; no NaN. */
static inline et_half et_half_at_most(et_half x, float ceiling, et_half_mask mask)
{
    (void)mask;
    return _mm256_min_ps(x, _mm256_set1_ps(ceiling));
}

/* x where the bits of y lie at most `span` above those of `least`, else +0: et_gate.h. */
static inline et_half et_half_within(et_half x, const float *y, uint32_t least, uint32_t span, et_half_mask mask)
{
    return et_8_within(x, et_half_load(y, mask), least, span);
}

/* a * b + c with one a. */
static inline et_half et_half_scale(et_half_factor a, et_half b, et_half c, et_half_mask mask)
{
    return et_half_madd(a, b, c, mask);
}

#endif

#if ET_LANES > 4

/* target[j][i] = source[i][j] for i < rows and j < columns; rows of either lie as many floats apart as is said. */
static inline void et_turn_f32(const float *source, ptrdiff_t source_row, int32_t rows, int32_t columns,
                               float *restrict target, ptrdiff_t target_row)
{
    const int32_t whole_rows = rows & ~3, whole_columns = columns & ~3;
    for (int32_t j = 0; j < whole_columns; j += 4)
        for (int32_t i = 0; i < whole_rows; i += 4) {
            const float *const from = source + i * source_row + j;
            float *const to = target + j * target_row + i;
            __m128 a = _mm_loadu_ps(from), b = _mm_loadu_ps(from + source_row);
            __m128 c = _mm_loadu_ps(from + 2 * source_row), d = _mm_loadu_ps(from + 3 * source_row);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            _mm_storeu_ps(to, a);
            _mm_storeu_ps(to + target_row, b);
            _mm_storeu_ps(to + 2 * target_row, c);
            _mm_storeu_ps(to + 3 * target_row, d);
        }
    for (int32_t j = 0; j < columns; j++)
        for (int32_t i = j < whole_columns ? whole_rows : 0; i < rows; i++)
            target[j * target_row + i] = source[i * source_row + j];
}

#endif

#if ET_LANES > 1

typedef et_mask et_lanes_mask;
typedef et_factor et_lanes_factor;

static inline et_lanes_factor et_lanes_factor_of(float value, et_lanes_mask mask)
{
    return et_factor_of(value, mask);
}

#endif

#endif
