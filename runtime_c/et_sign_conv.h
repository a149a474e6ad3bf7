/* Convolution of float32 with weights of +1 and -1, one bit each, and the gradient of its input: additions alone.
 *
 *   x     float32 [batch][source_h][source_w][source_c]
 *   bits  uint8 [out_c][taps][ceil(c / 8)], c = source_c / groups: bit j of byte b is that of channel 8 b + j, 1 for +1
 *         and 0 for -1; bits beyond the last channel are 0
 *   bias  float32 [out_c], or NULL for 0
 *   y     float32 [batch][out_h][out_w][out_c]; overlaps nothing that is read
 *
 * Four channels of a pixel have at most 16 signed sums. These are made once for each pixel that is read, and shared by
 * all taps and all output channels.
 *
 * Order of additions, one accumulator for each output: bias, then for taps (kh, kw) ascending, for four channels a, b,
 * c, d of the output's group ascending: (((+-a) + (+-b)) + (+-c)) + (+-d), less where channels end; or +0 where the tap
 * meets no pixel. No multiplication is rounded, so ET_FMA does not matter.
 *
 * Along each axis, tap k of output o meets pixel (o * scale + k * tap + start) / divisor, if that is a whole number
 * within the source. A convolution has divisor 1; the gradient of its input has scale 1 and steps back.
 */
#ifndef ET_SIGN_CONV_H
#define ET_SIGN_CONV_H

#include "et_base.h"

typedef struct {
    int32_t batch;
    int32_t source_h;
    int32_t source_w;
    int32_t source_c;
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t groups;
    int32_t row_scale;
    int32_t row_tap;
    int32_t row_start;
    int32_t row_divisor;
    int32_t column_scale;
    int32_t column_tap;
    int32_t column_start;
    int32_t column_divisor;
    int32_t table_rows;  /* source rows that one row of outputs spans, at most */
    int32_t table_width; /* (out_w - 1) * column_scale + (kernel_w - 1) * |column_tap| + 1 */
} et_sign_conv_shape;

/* scratch, aligned to 4, of 4 * (table_rows * sets * width + width + kernel_h) bytes, where width is table_width and
 * sets = groups * ceil(c / 4) * (16, or 2^c where c < 4): the sums of table_rows rows, zeros, and where the rows are. */
ET_CHECKED et_status et_sign_conv_f32(
    const et_sign_conv_shape *shape, const float *x, const uint8_t *bits, const float *bias, void *scratch, float *y);

/* Bits of [groups * outputs][taps][ceil(inputs / 8)] as those of [groups * inputs][taps][ceil(outputs / 8)], inputs and
 * outputs being the channels of one group: what the gradient of the input reads. */
ET_CHECKED et_status et_transpose_signs(
    size_t groups, size_t taps, size_t inputs, size_t outputs, const uint8_t *bits, uint8_t *transposed);

#endif
