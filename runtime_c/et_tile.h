/* Register tiles: what the convolution and dense kernels have in common.
 *
 * A tile is a few pixels by a few columns (output channels); all its sums stay in registers while the reduction runs.
 * Scalar cores hold 6 x 4 floats; vectors (et_lanes.h) hold pixels x 16 lanes.
 */
#ifndef ET_TILE_H
#define ET_TILE_H

#include "et_conv_shape.h"
#include "et_lanes.h"
#include "et_rectify.h"
#include "et_repeat.h"

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
#if ET_HAS_ENDS
    et_end end;            /* of results */
#endif
#if ET_FORM_GATE
    et_gate gate;          /* of results, for vectors; if it asks anything, the tile finishes them and has no bias */
#endif
#if ET_FORM_GROUPED
    int32_t groups;     /* one after the other, each of fewer than 16 columns; 0 and 1 are the same, as in vector builds */
    ptrdiff_t x_group;  /* elements from one to the next */
    ptrdiff_t w_group;
    ptrdiff_t run_step; /* from one value of a run to the next: not always 1 if there are fewer than 4 columns */
#endif
} et_tile;

/* The columns of all groups. */
static inline int32_t et_tile_columns(const et_tile *tile)
{
#if ET_FORM_GROUPED
    return tile->groups > 1 ? tile->groups * tile->columns : tile->columns;
#else
    return tile->columns;
#endif
}

/* How many groups of a convolution one tile goes over, one after the other, with `panel` channels that lie side by side in
 * the weights of each. */
static inline int32_t et_groups_together(const et_conv_shape *shape, int32_t panel)
{
    return ET_FORM_GROUPED && ET_LANES == 1 && !ET_SMALL_TILES && panel < ET_PANEL ? shape->groups : 1;
}

/* All columns of `pixels` pixels: 1, 2, 4, 6 or 12, but at most ET_TILE_PIXELS; scalar tiles of small code have 1, 2 or
 * the most. */
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

/* y[j] = bias[j] (or 0), as the tile ends results, for all columns and pixels of a region: results that meet no tap. */
void et_fill_region(const et_tile *tile, const et_region *region);

#endif
