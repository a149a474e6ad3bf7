/* Binary operations whose operands differ in shape, and the sums that undo broadcasting.
 *
 * The compiler merges axes as far as it can (toolkit/ops/broadcasting.py): a scalar operand is one axis, a row vector
 * two. Strides are in elements, 0 where an operand is repeated; both operands are row-major.
 */
#ifndef ET_BROADCAST_H
#define ET_BROADCAST_H

#include "et_base.h"

#define ET_BROADCAST_MAX_AXES 6

/* One axis of the result. On the last one, each stride is 0 or 1. */
typedef struct {
    int32_t size;
    int32_t a; /* stride of the first operand */
    int32_t b; /* stride of the second */
} et_broadcast_axis;

/* The result's axes, outermost first: 1 to ET_BROADCAST_MAX_AXES of them. */
typedef struct {
    int32_t axes;
    const et_broadcast_axis *axis;
} et_broadcast;

/* y = a op b, one IEEE operation an element.
 *   a, b  float32, row-major, of the sizes that the strides imply
 *   y     float32, contiguous; may be an operand exactly if that has no stride of 0
 */
ET_CHECKED et_status et_add_broadcast_f32(const et_broadcast *shape, const float *a, const float *b, float *y);
ET_CHECKED et_status et_sub_broadcast_f32(const et_broadcast *shape, const float *a, const float *b, float *y);
ET_CHECKED et_status et_mul_broadcast_f32(const et_broadcast *shape, const float *a, const float *b, float *y);
ET_CHECKED et_status et_div_broadcast_f32(const et_broadcast *shape, const float *a, const float *b, float *y);

/* y = x where x > 0, else x * slope. The first operand is x, without strides of 0; y may be x exactly. */
ET_CHECKED et_status et_prelu_broadcast_f32(const et_broadcast *shape, const float *x, const float *slope, float *y);

/* dx = dy where x > 0, else dy * slope. The first operand is x, of the shape of dy and dx, and dx may be dy or x
 * exactly. */
ET_CHECKED et_status et_prelu_grad_input_f32(
    const et_broadcast *shape, const float *dy, const float *x, const float *slope, float *dx);

/* One axis of the input of et_sum_to_f32. */
typedef struct {
    int32_t size;
    int32_t stride;
} et_sum_axis;

/* Its axes, the kept ones apart from the summed ones, outermost first: at least one of each (size 1 if need be), and at
 * most ET_BROADCAST_MAX_AXES. */
typedef struct {
    int32_t kept_axes;
    const et_sum_axis *kept;
    int32_t summed_axes;
    const et_sum_axis *summed;
} et_sum_to;

/* y[kept index] = the sum over the summed axes of x: plain additions, from +0, in ascending row-major order (N2).
 *   x  float32, as the strides say
 *   y  float32, contiguous in the order of the kept axes; may not overlap x
 */
ET_SHARED
ET_CHECKED et_status et_sum_to_f32(const et_sum_to *shape, const float *x, float *y);

/* The same for one part of a batch, the outermost summed axis, in programs that walk over it: where it goes on, sums do not
 * begin at +0 but at y, which has those over the parts before. */
ET_SHARED
ET_CHECKED et_status et_sum_on_f32(const et_sum_to *shape, bool goes_on, const float *x, float *y);

#endif
