/* Register tiles: what the convolution and dense kernels have in common.
 *
 * A tile is a few pixels by a few columns (output channels); all its sums stay in registers while the reduction runs.
 * Scalar cores hold 6 x 4 floats. Hosts with AVX hold pixels x 16 lanes, vectorised across columns, so the bits stay
 * those of one accumulator per result (N2). RISC-V cores without vectors, and everything else, take the scalar variant;
 * ET_FORCE_SCALAR chooses it anywhere.
 */
#ifndef ET_TILE_H
#define ET_TILE_H

#include "et_conv_shape.h"
#include "et_repeat.h"

#if defined(ET_FORCE_SCALAR)
#define ET_LANES 1
#elif defined(__AVX512F__)
#define ET_LANES 16
#elif defined(__AVX2__) && defined(__FMA__)
#define ET_LANES 8
#else
#define ET_LANES 1
#endif

#define ET_PANEL 16 /* columns that lie side by side in packed weights */

/* Where a float operation is a call, tiles win nothing and cost code: small ones then. */
#if !defined(ET_SMALL_TILES)
#if ET_LANES == 1 && defined(__riscv) && !defined(__riscv_flen)
#define ET_SMALL_TILES 1
#else
#define ET_SMALL_TILES 0
#endif
#endif

#if ET_LANES == 16
#define ET_TILE_PIXELS 12
#elif ET_SMALL_TILES
#define ET_TILE_PIXELS 2
#else
#define ET_TILE_PIXELS 6
#endif

#if ET_LANES > 1
#include <immintrin.h>

/* A panel of 16 floats, and which of them exist. */
#if ET_LANES == 16
typedef __m512 et_lanes;
typedef __mmask16 et_mask;

static inline et_mask et_mask_first(int32_t count)
{
    return (et_mask)(0xFFFFu >> (16 - count));
}

static inline et_lanes et_lanes_set(float value)
{
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

static inline bool et_lanes_are_zero(et_lanes a)
{
    return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_EQ_OQ) == 0xFFFFu;
}

static inline et_lanes et_lanes_add(et_lanes a, et_lanes b)
{
    return _mm512_add_ps(a, b);
}

static inline et_lanes et_lanes_mul(et_lanes a, et_lanes b)
{
    return _mm512_mul_ps(a, b);
}

static inline et_lanes et_lanes_madd(et_lanes a, et_lanes b, et_lanes c)
{
#if ET_FMA
    return _mm512_fmadd_ps(a, b, c);
#else
    return _mm512_add_ps(_mm512_mul_ps(a, b), c);
#endif
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

static inline et_lanes et_lanes_set(float value)
{
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

static inline bool et_lanes_are_zero(et_lanes a)
{
    const __m256 zero = _mm256_setzero_ps();
    const __m256 low = _mm256_cmp_ps(a.low, zero, _CMP_EQ_OQ), high = _mm256_cmp_ps(a.high, zero, _CMP_EQ_OQ);
    return _mm256_movemask_ps(_mm256_and_ps(low, high)) == 0xFF;
}

static inline et_lanes et_lanes_add(et_lanes a, et_lanes b)
{
    const et_lanes sum = {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
    return sum;
}

static inline et_lanes et_lanes_mul(et_lanes a, et_lanes b)
{
    const et_lanes product = {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
    return product;
}

static inline et_lanes et_lanes_madd(et_lanes a, et_lanes b, et_lanes c)
{
#if ET_FMA
    const et_lanes sum = {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
#else
    const et_lanes sum = {_mm256_add_ps(_mm256_mul_ps(a.low, b.low), c.low),
                          _mm256_add_ps(_mm256_mul_ps(a.high, b.high), c.high)};
#endif
    return sum;
}
#endif
#endif

/* The reduction that all pixels of a region share: taps_h x taps_w runs of `run` values.
 * Source values of a run are consecutive; a run meets as many consecutive rows of a panel of weights. */
typedef struct {
    int32_t taps_h; /* at least 1, as are taps_w and run */
    int32_t taps_w;
    int32_t run;
    int32_t columns;       /* results per pixel */
    ptrdiff_t x_tap_h;     /* elements from one tap to the next */
    ptrdiff_t x_tap_w;
    ptrdiff_t w_tap_h;     /* rows of a panel from one tap to the next */
    ptrdiff_t w_tap_w;
    ptrdiff_t w_first;     /* row of the first tap */
    ptrdiff_t panel_rows;  /* rows of a panel of weights */
    const float *w;        /* panels [columns/16][panel_rows][16], the last one as wide as what is left */
    const float *bias;     /* [columns], or NULL */
    int32_t resume;        /* start from y instead; vector builds only */
} et_tile;

/* All columns of `pixels` pixels: 1, 2, 4, 6 or 12, but at most ET_TILE_PIXELS. */
typedef void et_tile_function(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y);

/* y[m][j] = bias[j] + sum over the runs of x[m][k] * w[k][j]. */
void et_tile_sum(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y);

/* Pixels that share a reduction: rows x columns of them, with steps in elements. */
typedef struct {
    int32_t rows;
    int32_t columns;
    const float *x; /* source of the first pixel's first tap */
    float *y;
    ptrdiff_t x_row;
    ptrdiff_t x_column;
    ptrdiff_t y_row;
    ptrdiff_t y_column;
} et_region;

/* Calls `function` for all pixels of a region, in tiles that may wrap from one row to the next. */
void et_tile_region(const et_tile *tile, const et_region *region, et_tile_function *function);

/* y[j] = bias[j] (or 0), j < columns, for all pixels of a region: results that meet no tap. */
void et_fill_region(const et_region *region, int32_t columns, const float *bias);

#endif
