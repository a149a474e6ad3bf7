/* How layers end, and rectified linear units: y = x where x > 0, else +0; and at most a ceiling. NaN compares false, so it
 * gives +0 (numerics N4). Not for callers.
 *
 * A layer may end with an addition, then with a ReLU, while its sums are in registers. The macros are for tiles, whose
 * sums are variables c<pixel>_<column>: ET_ADD_ON() and then ET_RECTIFY() end those of a tile as it asks;
 * ET_GATE() ends those of a gradient.
 */
#ifndef ET_RECTIFY_H
#define ET_RECTIFY_H

#include "et_each.h"
#include "et_gate.h"
#include "et_lanes.h"
#include "et_math.h"

/* The instructions fmax.s and fmin.s take the number where the other operand is NaN, and order -0 below +0. */
#if ET_SCALAR_CORE && defined(__riscv_flen) && (defined(__GNUC__) || defined(__clang__))
#define ET_HAS_FMAX 1
static inline float et_instruction_max(float a, float b)
{
    float y;
    __asm__("fmax.s %0, %1, %2" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

static inline float et_instruction_min(float a, float b)
{
    float y;
    __asm__("fmin.s %0, %1, %2" : "=f"(y) : "f"(a), "f"(b));
    return y;
}
#else
#define ET_HAS_FMAX 0
#endif

/* x > 0, false for NaN. */
static inline bool et_is_positive(float x)
{
#if defined(__riscv_float_abi_soft) && !defined(__riscv_flen)
    return et_bits_f32(x) - 1u < ET_INFINITY_BITS; /* two instructions instead of a call: 0 < bits <= those of inf */
#else
    return x > 0.0f;
#endif
}

static inline float et_relu(float x)
{
#if ET_HAS_FMAX
    return et_instruction_max(x, 0.0f);
#else
    return et_is_positive(x) ? x : 0.0f;
#endif
}

#define ET_HAS_ENDS (ET_FORM_RECTIFY || ET_FORM_ADDEND)

/* How the sums of a layer end: with an addition, if any, and then with what `kind` says. */
typedef struct {
    enum { ET_LINEAR, ET_RELU, ET_RELU_WITH_CEILING } kind;
    float ceiling;
#if ET_FORM_ADDEND
    const float *addend;  /* one for each result of the layer, in their order; or NULL */
    const float *results; /* the first of them */
#endif
} et_end;

static inline et_end et_end_linear(void)
{
    const et_end end = {.kind = ET_LINEAR};
    return end;
}

/* The ceiling is above 0; infinite for ReLU alone. */
static inline et_end et_end_relu(float ceiling)
{
    const et_end end = {.kind = ceiling < ET_INFINITY ? ET_RELU_WITH_CEILING : ET_RELU, .ceiling = ceiling};
    return end;
}

#if ET_FORM_ADDEND

/* An end after the addition of addend[i] to results[i]; both may be the same memory. */
static inline et_end et_end_after_sum(et_end end, const float *addend, const float *results)
{
    end.addend = addend;
    end.results = results;
    return end;
}

/* What is added to results from `y` on. */
static inline const float *et_addends(et_end end, const float *y)
{
    return end.addend + (y - end.results);
}

#if ET_LANES == 1
#define ET_ADDEND_COLUMN(m, j) c##m##_##j += addend[j];
#define ET_AFTER_ADDENDS ET_BARRIER(); /* no registers are left to load more addends ahead */
#else
#define ET_AFTER_ADDENDS
#define ET_ADDEND_COLUMN(m, j) c##m##_##j = ET_V(_add)(c##m##_##j, ET_V(_load)(addend + j * ET_PANEL, mask), mask);
#endif
#define ET_ADDEND_PIXEL(m, COLUMNS)                             \
    {                                                           \
        const float *const addend = addends + (y[m] - results); \
        COLUMNS(ET_ADDEND_COLUMN, m)                            \
        ET_AFTER_ADDENDS                                        \
    }
#define ET_ADD_ON(PIXELS, COLUMNS)                                \
    if (tile->end.addend != NULL) {                               \
        const float *const addends = tile->end.addend + column;   \
        const float *const results = tile->end.results;           \
        PIXELS(ET_ADDEND_PIXEL, COLUMNS)                          \
    }

#else

#define ET_ADD_ON(PIXELS, COLUMNS)

#endif

#if ET_FORM_CEILING
/* x from +0 on, no NaN; the ceiling is above 0. */
static inline float et_at_most(float x, float ceiling)
{
#if ET_HAS_FMAX
    return et_instruction_min(x, ceiling);
#elif defined(__riscv_float_abi_soft) && !defined(__riscv_flen)
    return et_bits_f32(x) < et_bits_f32(ceiling) ? x : ceiling; /* the order of the bits */
#else
    return x < ceiling ? x : ceiling;
#endif
}
#endif

#if ET_FORM_RECTIFY

/* Where the end of a sum is no place for a branch: bounds that are NaN where there are none. */
typedef struct {
    float floor;
    float ceiling;
} et_bounds;

static inline et_bounds et_bounds_of(et_end end)
{
    const et_bounds bounds = {end.kind == ET_LINEAR ? ET_NAN : 0.0f,
                              end.kind == ET_RELU_WITH_CEILING ? end.ceiling : ET_NAN};
    return bounds;
}

static inline float et_bounded(float x, et_bounds bounds)
{
#if ET_HAS_FMAX
    x = et_instruction_max(x, bounds.floor);
#if ET_FORM_CEILING
    x = et_instruction_min(x, bounds.ceiling);
#endif
#else
    if (bounds.floor != 0.0f)
        return x;
    x = et_relu(x);
#if ET_FORM_CEILING
    if (bounds.ceiling > 0.0f)
        x = et_at_most(x, bounds.ceiling);
#endif
#endif
    return x;
}

#if ET_LANES == 1
#define ET_RELU_COLUMN(m, j) c##m##_##j = et_relu(c##m##_##j);
#define ET_AT_MOST_COLUMN(m, j) c##m##_##j = et_at_most(c##m##_##j, tile->end.ceiling);
#else
#define ET_RELU_COLUMN(m, j) c##m##_##j = ET_V(_relu)(c##m##_##j, mask);
#define ET_AT_MOST_COLUMN(m, j) c##m##_##j = ET_V(_at_most)(c##m##_##j, tile->end.ceiling, mask);
#endif
#define ET_RELU_PIXEL(m, COLUMNS) COLUMNS(ET_RELU_COLUMN, m)
#define ET_AT_MOST_PIXEL(m, COLUMNS) COLUMNS(ET_AT_MOST_COLUMN, m)

#if ET_FORM_CEILING
#define ET_RECTIFY(PIXELS, COLUMNS)                   \
    if (tile->end.kind != ET_LINEAR) {                 \
        PIXELS(ET_RELU_PIXEL, COLUMNS)                \
        if (tile->end.kind == ET_RELU_WITH_CEILING) {  \
            PIXELS(ET_AT_MOST_PIXEL, COLUMNS)         \
        }                                             \
    }
#else
#define ET_RECTIFY(PIXELS, COLUMNS)       \
    if (tile->end.kind != ET_LINEAR) {     \
        PIXELS(ET_RELU_PIXEL, COLUMNS)    \
    }
#endif

#else

#define ET_RECTIFY(PIXELS, COLUMNS)

#endif

#if ET_HAS_ENDS
/* After the addition, if any. */
static inline float et_rectified(float x, et_end end)
{
#if ET_FORM_RECTIFY
    if (end.kind == ET_LINEAR)
        return x;
    x = et_relu(x);
#else
    (void)end;
#endif
#if ET_FORM_RECTIFY && ET_FORM_CEILING
    if (end.kind == ET_RELU_WITH_CEILING)
        x = et_at_most(x, end.ceiling);
#endif
    return x;
}

/* The result x of a place y. */
static inline float et_ended(float x, et_end end, const float *y)
{
#if ET_FORM_ADDEND
    if (end.addend != NULL)
        x += *et_addends(end, y);
#else
    (void)y;
#endif
    return et_rectified(x, end);
}
#endif

/* In vectors alone: without them it costs nothing more to go over all results afterwards (et_gate.c). `column` is the
 * first of the tile, of result y[m] and of what the gate asks. */
#if ET_FORM_GATE && ET_LANES > 1
#define ET_GATE_COLUMN(m, j)                                                                                       \
    c##m##_##j = ET_V(_within)(c##m##_##j, asked + (y[m] - gate.dx) + j * ET_PANEL, gate.least, gate.span, mask);
#define ET_GATE_PIXEL(m, COLUMNS) COLUMNS(ET_GATE_COLUMN, m)
#define ET_GATE(PIXELS, COLUMNS, column)          \
    if (tile->gate.y != NULL) {                   \
        const et_gate gate = tile->gate;          \
        const float *const asked = gate.y + (column); \
        PIXELS(ET_GATE_PIXEL, COLUMNS)            \
    }
#else
#define ET_GATE(PIXELS, COLUMNS, column)
#endif

#endif
