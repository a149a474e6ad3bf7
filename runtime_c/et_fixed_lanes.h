/* Weight gradient of a convolution of few bits: dw as et_fixed_conv_grad_weight_i8 has it, two sums in a word.
 *
 *   largest_x, largest_g   bounds of the magnitudes of x and g, of product up to 16383; channels even, and out_channels
 *                          too where a row of outputs has more than 32767 / (largest_x * largest_g) pixels
 *   scratch                et_fixed_lanes_scratch_bytes(shape), aligned to 4
 * All else as in et_fixed_conv.h. Exact, so in any order: the same bits for every build.
 *
 * A small core keeps the image with its padding as words, the codes of two channels in each; a product with a code of the
 * gradient is two products. Before sums leave 16 bits they are taken apart. Where most of g is 0, it lists the rest.
 */
#ifndef ET_FIXED_LANES_H
#define ET_FIXED_LANES_H

#include "et_fixed_conv.h"

static inline size_t et_fixed_lanes_scratch_bytes(const et_fixed_conv *shape)
{
    return 2u * et_fixed_conv_grad_weight_scratch_bytes(shape) - ET_FIXED_LISTS_BYTES;
}

ET_CHECKED et_status et_fixed_lanes_grad_weight_i8(
    const et_fixed_conv *shape, int32_t largest_x, int32_t largest_g, const int8_t *x, const int8_t *g,
    const float *x_scale, const float *g_scale, void *scratch, int32_t *dw, float *dw_scale);

#endif
