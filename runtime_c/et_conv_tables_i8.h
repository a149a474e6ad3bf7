/* Convolution of int8 codes with weights of +1 and -1, one bit each, by tables of signed sums: no products.
 *
 *   x        int8 [batch][height][width][channels]
 *   bits     uint8 [out_channels][kernel_h * kernel_w][ceil(channels / 8)]: bit j of byte b is that of channel 8 b + j,
 *            1 for +1 and 0 for -1; bits beyond the last channel are 0
 *   y        [batch][out_height][out_width][out_channels]; overlaps nothing that is read
 *   scratch  et_conv_tables_i8_scratch_bytes(shape, strip), aligned to 4
 * Strides and dilations are 1, and there is one group. Taps on padding read the code x_zero. The border segments of the
 * shape are not used.
 *
 * Four channels of a pixel have 16 signed sums. They are made once for a pixel, and all taps and all filters look them
 * up: the four bits of a weight say which, and neighbouring outputs find theirs at constant distances. Tables of
 * kernel_h rows are kept, for `strip` columns of outputs at a time. With `lanes` 2 a word holds the sums of two pixels,
 * one of the upper and one of the lower half of the rows: for sums of magnitudes up to 32767. With 1 they are int32.
 *
 * A dense layer (1x1 images, kernel 1x1, no padding) takes its inputs in blocks instead; strip and lanes do not matter.
 * Bits: sums are exact, so they have no order; the rest is said in et_epilogue.h. The same for every build.
 */
#ifndef ET_CONV_TABLES_I8_H
#define ET_CONV_TABLES_I8_H

#include "et_conv_shape.h"

enum {
    ET_TABLES_COLUMNS = 14, /* outputs of one row that are summed at once, at most */
    ET_TABLES_CHANNELS = 16, /* channels that are summed before the epilogue takes them */
    ET_TABLES_BLOCK = 16,   /* bytes of the bits of a dense layer for which there are tables at once */
    ET_TABLES_SET = 64      /* bytes of the 16 sums of four channels */
};

static inline bool et_conv_tables_is_dense(const et_conv_shape *shape)
{
    return shape->height == 1 && shape->width == 1 && shape->kernel_h == 1 && shape->kernel_w == 1 &&
           shape->out_height == 1 && shape->out_width == 1 && shape->pad_top == 0 && shape->pad_left == 0;
}

/* Bytes of scratch: sums of a block of outputs, the tables, and where each byte of a filter finds its own. */
static inline size_t et_conv_tables_i8_scratch_bytes(const et_conv_shape *shape, int32_t strip)
{
    const size_t quads = ((size_t)shape->channels + 3) / 4;
    if (et_conv_tables_is_dense(shape))
        return 4 * (size_t)shape->out_channels + 2 * (size_t)ET_TABLES_BLOCK * ET_TABLES_SET;
    return 4 * 2 * (size_t)ET_TABLES_COLUMNS * ET_TABLES_CHANNELS +
           4 * (size_t)shape->kernel_h * (size_t)shape->kernel_w * ((quads + 1) / 2) +
           (size_t)shape->kernel_h * quads * (size_t)(strip + shape->kernel_w - 1) * ET_TABLES_SET;
}

/* Bytes that the data gradient takes before these: the bits of its convolution, up to a multiple of 4. */
static inline size_t et_conv_tables_turned_bytes(const et_conv_shape *shape)
{
    const size_t taps = (size_t)shape->kernel_h * (size_t)shape->kernel_w;
    return ((size_t)shape->out_channels * taps * (((size_t)shape->channels + 7) / 8) + 3) / 4 * 4;
}

/* y float32, as et_epilogue_real has it. */
ET_CHECKED et_status et_conv_tables_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes, int32_t x_zero,
                                       const int8_t *x, const uint8_t *bits, const float *x_scale,
                                       const float *w_scale, int32_t w_scale_step, const float *bias,
                                       const int32_t *start, void *scratch, float *y);

/* y int8, as et_epilogue_codes has it. */
ET_CHECKED et_status et_conv_tables_codes_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes, int32_t x_zero,
                                             int32_t levels, const int8_t *x, const uint8_t *bits,
                                             const int32_t *thresholds, const int8_t *direction, void *scratch,
                                             int8_t *y);

/* y int32, the sums themselves; their scale is that of x times that of w (et_fixed_conv.h). */
ET_CHECKED et_status et_conv_tables_sums_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes, const int8_t *x,
                                            const uint8_t *bits, const float *x_scale, const float *w_scale,
                                            void *scratch, int32_t *y, float *y_scale);

/* Data gradient of a convolution: dx = real(sum over taps and output channels of g * w) * (g_scale[n] * w_scale).
 * The gradient is itself a convolution, of g with the bits turned: taps backwards, inputs and outputs exchanged.
 *   shape    of that convolution: height, width, channels are those of g, and out_height ... those of dx; pads are
 *            kernel - 1 less those of the layer
 *   g        int8 [batch][height][width][channels]
 *   bits     those of the layer: uint8 [channels][kernel_h * kernel_w][ceil(out_channels / 8)]
 *   g_scale  float32 [batch] with g_scale_step 1, or one for all with 0; w_scale: one
 *   dx       float32 [batch][out_height][out_width][out_channels]
 *   scratch  et_conv_tables_turned_bytes(shape) + et_conv_tables_i8_scratch_bytes(shape, strip), aligned to 4
 */
ET_CHECKED et_status et_conv_tables_grad_input_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes,
                                                  const int8_t *g, const uint8_t *bits, const float *g_scale,
                                                  int32_t g_scale_step, const float *w_scale, void *scratch,
                                                  float *dx);

/* dx int32, the sums themselves, one g_scale for all; their scale is that of g times that of w (et_fixed_conv.h). */
ET_CHECKED et_status et_conv_tables_grad_input_sums_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes,
                                                       const int8_t *g, const uint8_t *bits, const float *g_scale,
                                                       const float *w_scale, void *scratch, int32_t *dx,
                                                       float *dx_scale);

#endif
