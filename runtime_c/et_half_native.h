/* Convolutions with sums of binary16: what et_half_conv.h calls native. Not for callers; shapes and layouts are there.
 *
 * One accumulator per result; each multiply-add rounds to binary16, by Zfh or exactly alike in float32. Needs no scratch.
 */
#ifndef ET_HALF_NATIVE_H
#define ET_HALF_NATIVE_H

#include "et_half_conv.h"

ET_CHECKED et_status et_half_native(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x,
                                    const void *w, const float *bias, uint16_t *y);

ET_CHECKED et_status et_half_native_grad_input(const et_conv_shape *shape, const et_half_form *form,
                                               const uint16_t *dy, const void *w, float *dx);

/* sums[kernel_h][kernel_w][inputs][outputs] of input channels from `input` on and output channels from `output` on, of
 * the same group; at most 16 outputs. */
void et_half_native_grad_weight(const et_conv_shape *shape, ptrdiff_t input, ptrdiff_t inputs, ptrdiff_t output,
                                ptrdiff_t outputs, const uint16_t *x, const uint16_t *dy, float *sums);

#endif
