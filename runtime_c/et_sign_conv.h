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

/* All distances are given, so that nothing is multiplied to find an element. */
typedef struct {
    int32_t batch;
    int32_t source_image; /* floats of an image of x */
    int32_t source_line;  /* floats of a row of x */
    int32_t out_h;
    int32_t out_w;
    int32_t out_c;
    int32_t out_line;     /* floats of a row of y */
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t groups;
    int32_t channels; /* of x in a group */
    int32_t filters;  /* of a group */
    int32_t row_bytes; /* of the bits of the taps of one row of a filter */
    int32_t filter_bytes;
    int32_t column_scale;
    int32_t pattern_bits; /* 4, or channels where that is less */
    int32_t table_width;  /* columns of the table: (out_w - 1) * column_scale + (kernel_w - 1) * |column_tap| + 1 */
    int32_t quad;         /* floats of the sums of four channels: table_width << pattern_bits */
    int32_t group;        /* floats of the sums of a group */
    int32_t row;          /* floats of the sums of a row of x */
    int32_t table;        /* floats of all rows that are kept */
    const int32_t *columns; /* [table_width]: floats from the start of a row of x to the pixel of a column, -1 for none */
    const int32_t *taps;    /* [kernel_w]: column of the first output's tap */
    const int32_t *rows;    /* [out_h][kernel_h]: floats from the start of the table to the row of a tap, -1 for none */
    const int32_t *builds;  /* [out_h][3]: rows that an output row needs anew: floats from the start of x to the first, floats
                               from the start of the table to where it goes, how many; the next ones follow in a ring */
} et_sign_conv_shape;

/* scratch, aligned to 4, of 4 * table bytes. */
ET_CHECKED et_status et_sign_conv_f32(
    const et_sign_conv_shape *shape, const float *x, const uint8_t *bits, const float *bias, void *scratch, float *y);

/* Bits of [groups * outputs][taps][ceil(inputs / 8)] as those of [groups * inputs][taps][ceil(outputs / 8)], inputs and
 * outputs being the channels of one group: what the gradient of the input reads. filter, group: bytes
 * from output to output and from group to group; turned, turned_group: from input to input and from group to group of
 * what is written. */
ET_CHECKED et_status et_transpose_signs(
    size_t groups, size_t taps, size_t inputs, size_t outputs, size_t filter, size_t group, size_t turned,
    size_t turned_group, const uint8_t *bits, uint8_t *transposed);

#endif
