/* Two shapes of tiles with eight columns or fewer, for PCs: where the general tile waits for loads. Not for callers.
 *
 * Each result is still one chain over the same steps in the same order, so the bits are those of the general tile.
 */
#ifndef ET_TILE_HALF_H
#define ET_TILE_HALF_H

#include "et_block.h"
#include "et_tile.h"

#if ET_HAS_HALF && ET_TILE_PIXELS == 12

/* Whether the sources of 12 pixels are one step apart, so that few registers say where they all are. */
static inline bool et_half_is_even(const float *const *x)
{
    const ptrdiff_t step = x[1] - x[0];
    for (int32_t m = 2; m < 12; m++)
        if (x[m] - x[m - 1] != step)
            return false;
    return true;
}

/* Results of the places y, as the tile ends them. */
static inline et_half et_half_ended(const et_tile *tile, et_half x, const float *y, et_half_mask mask)
{
#if ET_FORM_ADDEND
    if (tile->end.addend != NULL)
        x = et_half_add(x, et_half_load(et_addends(tile->end, y), mask), mask);
#endif
#if ET_FORM_RECTIFY
    if (tile->end.kind != ET_LINEAR)
        x = et_half_relu(x, mask);
#endif
#if ET_FORM_RECTIFY && ET_FORM_CEILING
    if (tile->end.kind == ET_RELU_WITH_CEILING)
        x = et_half_at_most(x, tile->end.ceiling, mask);
#endif
#if ET_FORM_GATE
    if (tile->gate.y != NULL)
        x = et_half_within(x, tile->gate.y + (y - tile->gate.dx), tile->gate.least, tile->gate.span, mask);
#endif
    (void)tile;
    (void)y;
    (void)mask;
    return x;
}

#define ET_HALF_FOURS(DO) DO(0) DO(1) DO(2) DO(3)
#define ET_HALF_START(q)                                     \
    const float *x##q = x[3 * (q)];                          \
    et_half c##q##_0 = start, c##q##_1 = start, c##q##_2 = start;
#define ET_HALF_RESUME(q)                                    \
    c##q##_0 = et_half_load(y[3 * (q)] + column, mask);      \
    c##q##_1 = et_half_load(y[3 * (q) + 1] + column, mask);  \
    c##q##_2 = et_half_load(y[3 * (q) + 2] + column, mask);
#define ET_HALF_ADD(q)                                                                        \
    c##q##_0 = et_half_scale(et_half_factor_of(x##q[0], mask), b, c##q##_0, mask);            \
    c##q##_1 = et_half_scale(et_half_factor_of(x##q[pixel], mask), b, c##q##_1, mask);        \
    c##q##_2 = et_half_scale(et_half_factor_of(x##q[2 * pixel], mask), b, c##q##_2, mask);
#define ET_HALF_MOVE(q) x##q += step;
#define ET_HALF_STORE(y, sum) et_half_store(y, mask, et_half_ended(tile, sum, y, mask));
#define ET_HALF_FINISH(q)                              \
    ET_HALF_STORE(y[3 * (q)] + column, c##q##_0)     \
    ET_HALF_STORE(y[3 * (q) + 1] + column, c##q##_1) \
    ET_HALF_STORE(y[3 * (q) + 2] + column, c##q##_2)

/* 12 pixels whose sources are even steps apart. */
static ET_NOINLINE void et_half_even(const et_tile *tile, const float *const *x, float *const *y, ptrdiff_t column,
                                     const float *w, ptrdiff_t pitch, et_half_mask mask)
{
    const et_half start = tile->bias != NULL ? et_half_load(tile->bias + column, mask) : et_half_set(0.0f, mask);
    const ptrdiff_t pixel = x[1] - x[0], run = tile->run;
    const ptrdiff_t x_tap_w = tile->x_tap_w - run, w_tap_w = (tile->w_tap_w - run) * pitch;
    const ptrdiff_t x_tap_h = tile->x_tap_h - tile->x_tap_w * tile->taps_w;
    const ptrdiff_t w_tap_h = (tile->w_tap_h - tile->w_tap_w * tile->taps_w) * pitch;
    ET_HALF_FOURS(ET_HALF_START)
    if (tile->resume) {
        ET_HALF_FOURS(ET_HALF_RESUME)
    }
    for (int32_t taps_h = tile->taps_h; taps_h != 0; taps_h--) {
        for (int32_t taps_w = tile->taps_w; taps_w != 0; taps_w--) {
            for (const float *end = x0 + run; x0 != end; w += pitch) {
                const ptrdiff_t step = 1;
                const et_half b = et_half_load(w, mask);
                ET_HALF_FOURS(ET_HALF_ADD)
                ET_HALF_FOURS(ET_HALF_MOVE)
            }
            const ptrdiff_t step = x_tap_w;
            ET_HALF_FOURS(ET_HALF_MOVE)
            w += w_tap_w;
        }
        const ptrdiff_t step = x_tap_h;
        ET_HALF_FOURS(ET_HALF_MOVE)
        w += w_tap_h;
    }
    ET_HALF_FOURS(ET_HALF_FINISH)
}

/* Whether a tile has nine steps, three by three: a 3x3 kernel on one channel. */
static inline bool et_half_is_nine(const et_tile *tile)
{
    return tile->taps_h == 3 && tile->taps_w == 1 && tile->run == 3 && !tile->resume;
}

#define ET_NINE_START(m, COLUMNS) \
    const float *const x##m = x[m];  \
    et_half c##m = start;
#define ET_NINE_ADD(m, COLUMNS) c##m = et_half_scale(et_half_factor_of(x##m[at], mask), b[i], c##m, mask);
#define ET_NINE_FINISH(m, COLUMNS) ET_HALF_STORE(y[m] + column, c##m)
#define ET_NINE(PIXELS)                                                        \
    {                                                                          \
        PIXELS(ET_NINE_START, 0)                                               \
        ET_UNROLL for (int32_t i = 0; i < 9; i++) {                            \
            const ptrdiff_t at = i / 3 * tile->x_tap_h + i % 3;                \
            PIXELS(ET_NINE_ADD, 0)                                             \
        }                                                                      \
        PIXELS(ET_NINE_FINISH, 0)                                              \
    }

/* Nine steps a pixel: the weights stay in registers, and the chains of six pixels go side by side. */
static ET_NOINLINE void et_half_nine(const et_tile *tile, int32_t pixels, const float *const *x, float *const *y,
                                     ptrdiff_t column, const float *w, ptrdiff_t pitch, et_half_mask mask)
{
    const et_half start = tile->bias != NULL ? et_half_load(tile->bias + column, mask) : et_half_set(0.0f, mask);
    et_half b[9];
    for (int32_t i = 0; i < 9; i++)
        b[i] = et_half_load(w + (i / 3 * tile->w_tap_h + i % 3) * pitch, mask);
    for (; pixels >= 6; pixels -= 6, x += 6, y += 6)
        ET_NINE(ET_PIXELS_6)
    for (; pixels > 0; pixels--, x++, y++)
        ET_NINE(ET_PIXELS_1)
}

#endif

#endif
