/* Where gradients pass: an element stays where least <= y <= most, with 0 < least, and becomes +0 elsewhere, also where y
 * is NaN. For y = ReLU(x), least is the smallest number above 0 and most is infinity. Not for callers.
 *
 * Bits of positive numbers ascend as the numbers do, and those of all others lie above infinity's: so one unsigned
 * comparison tells, on cores of every kind.
 */
#ifndef ET_GATE_H
#define ET_GATE_H

#include "et_math.h"

typedef struct {
    const float *y;  /* as the results lie; NULL where every element passes */
    const float *dx; /* the first result of all */
    uint32_t least;  /* bits */
    uint32_t span;   /* from there to the bits of the most */
} et_gate;

static inline et_gate et_gate_open(void)
{
    const et_gate gate = {NULL, NULL, 0u, 0u};
    return gate;
}

/* Bounds that et_gate_has_bounds allows. */
static inline et_gate et_gate_of(float least, float most, const float *y, const float *dx)
{
    const et_gate gate = {y, dx, et_bits_f32(least), et_bits_f32(most) - et_bits_f32(least)};
    return gate;
}

static inline et_gate et_gate_of_relu(const float *y, const float *dx)
{
    const et_gate gate = {y, dx, 1u, ET_INFINITY_BITS - 1u};
    return gate;
}

/* Whether 0 < least <= most; no NaN. */
static inline bool et_gate_has_bounds(float least, float most)
{
    const uint32_t from = et_bits_f32(least), to = et_bits_f32(most);
    return from - 1u < ET_INFINITY_BITS && from <= to && to <= ET_INFINITY_BITS;
}

static inline bool et_gate_passes(et_gate gate, float y)
{
    return et_bits_f32(y) - gate.least <= gate.span;
}

/* Makes what does not pass +0: elements `first` ... `first + count - 1` of dx, which is that of the gate. */
void et_gate_close(et_gate gate, size_t first, size_t count, float *dx);

/* The same of this thread's share of `images` of so many elements each. */
void et_gate_close_images(et_gate gate, ptrdiff_t images, size_t elements, float *dx);

#endif
