/* Convolution of int8 codes with weights of +1 and -1, one bit each, by tables of signed sums: no products.
 *
 *   x        int8 [batch][height][width][channels]
 *   bits     uint8 [out_channels][kernel_h * kernel_w][ceil(channels / 8)]: bit j of byte b is that of channel 8 b + j,
 *            1 for +1 and 0 for -1; bits beyond the last channel are 0
 *   y        [batch][out_height][out_width][out_channels]; overlaps nothing that is read
 *   scratch  et_conv_tables_i8_scratch_bytes(shape), aligned to 4
 * There is one group. Taps on padding read the code x_zero.
 *
 * Four channels of a pixel have 16 signed sums. They are made once for a pixel, and all taps and all filters look them
 * up: the four bits of a weight say which, and neighbouring outputs find theirs at constant distances. Tables of the
 * rows that the taps of an output span are kept, for `strip` columns of outputs at a time. With `lanes` 2 a word holds
 * the sums of two pixels, one of the upper and one of the lower half of the rows: for sums of magnitudes up to 32767;
 * with 3 of three, one of each third, for codes by 1 or 3 thresholds of sums up to ET_THREE_LANES. With 1 they are int32.
 *
 * A dense layer (1x1 images, kernel 1x1, no padding; `strip` is 0) takes its inputs in blocks instead.
 * Bits: sums are exact, so they have no order; the rest is said in et_epilogue.h. The same for every build.
 */
#ifndef ET_CONV_TABLES_I8_H
#define ET_CONV_TABLES_I8_H

#include "et_base.h"

enum {
    ET_TABLES_COLUMNS = 14, /* outputs of one row that are summed at once, at most */
    ET_TABLES_CHANNELS = 16, /* channels that are summed before the epilogue takes them */
    ET_TABLES_BLOCK = 16,   /* bytes of the bits of a dense layer for which there are tables at once */
    ET_TABLES_SET = 64      /* bytes of the 16 sums of four channels */
};

/* All distances are given, so that nothing is multiplied to find an element. Those in tables are in words. */
typedef struct {
    int32_t batch;
    int32_t height; /* of x */
    int32_t width;
    int32_t channels;
    int32_t line;  /* codes of a row of x */
    int32_t image; /* codes of an image of x */
    int32_t out_height;
    int32_t out_width;
    int32_t out_channels;
    int32_t out_line;  /* elements of a row of y */
    int32_t out_image; /* elements of an image of y */
    int32_t kernel_h;
    int32_t kernel_w;
    int32_t filter_bytes; /* of the bits of an output channel */
    int32_t layer_filter_bytes; /* the same of the layer whose data gradient this convolution is; 0 for none */
    int32_t stride_h;
    int32_t top;      /* row of x that the first tap of the first output reads; may be negative, as all of these may */
    int32_t top_line; /* codes from the start of x to that row */
    int32_t left;     /* column of x that it reads */
    int32_t left_codes;
    int32_t strip;        /* columns of outputs for which there are tables at once */
    int32_t strip_pixels; /* columns of x from one strip to the next */
    int32_t strip_codes;
    int32_t columns;      /* of the tables of a strip */
    int32_t last_columns; /* of the last strip */
    int32_t lanes;
    int32_t part;          /* rows of outputs in the first lane */
    int32_t part_rows;     /* rows of x from a pixel of a lane to that of the next; 0 with one lane */
    int32_t part_codes;
    int32_t part_elements; /* elements of y between them */
    int32_t lane_codes;    /* 1 where et_lane_codes takes the sums */
    int32_t span;    /* rows of x that the taps of an output span */
    int32_t quad;    /* from the tables of four channels to those of the next four */
    int32_t row;     /* from row to row of x */
    int32_t table;   /* all rows that are kept: span of them */
    int32_t column;  /* from output to output along a row */
    int32_t tap;     /* from tap to tap along a row */
    int32_t tap_row; /* from a row of taps to the next */
} et_tables_shape;

/* Bytes of scratch: sums of a block of outputs, the tables, and where each byte of a filter finds its own. */
static inline size_t et_conv_tables_i8_scratch_bytes(const et_tables_shape *shape)
{
    if (shape->strip == 0)
        return 4 * (size_t)shape->out_channels + 2 * (size_t)ET_TABLES_BLOCK * ET_TABLES_SET;
    return 4 * (2 * (size_t)ET_TABLES_COLUMNS * ET_TABLES_CHANNELS + (size_t)shape->filter_bytes + (size_t)shape->table);
}

/* y float32, as et_epilogue_real has it. */
ET_CHECKED et_status et_conv_tables_i8(const et_tables_shape *shape, int32_t x_zero, const int8_t *x,
                                       const uint8_t *bits, const float *x_scale, const float *w_scale,
                                       int32_t w_scale_step, const float *bias, const int32_t *start, void *scratch,
                                       float *y);

/* y int8, as et_epilogue_codes has it. With `lane_codes` the scratch goes on for
 * 2 * out_channels * levels words. */
ET_CHECKED et_status et_conv_tables_codes_i8(const et_tables_shape *shape, int32_t x_zero, int32_t levels,
                                             const int8_t *x, const uint8_t *bits, const int32_t *thresholds,
                                             const int8_t *direction, void *scratch, int8_t *y);

/* y int32, the sums themselves; their scale is that of x times that of w (et_fixed_conv.h). */
ET_CHECKED et_status et_conv_tables_sums_i8(const et_tables_shape *shape, const int8_t *x, const uint8_t *bits,
                                            const float *x_scale, const float *w_scale, void *scratch, int32_t *y,
                                            float *y_scale);

/* Data gradient of a convolution: dx = real(sum over taps and output channels of g * w) * (g_scale[n] * w_scale).
 * The gradient is itself a convolution, of g with the bits turned: taps backwards, inputs and outputs exchanged.
 *   shape    of that convolution: height, width, channels are those of g, and out_height ... those of dx; pads are
 *            kernel - 1 less those of the layer
 *   g        int8 [batch][height][width][channels]
 *   bits     those of the layer: uint8 [channels][kernel_h * kernel_w][ceil(out_channels / 8)]
 *   g_scale  float32 [batch] with g_scale_step 1, or one for all with 0; w_scale: one
 *   dx       float32 [batch][out_height][out_width][out_channels]
 *   scratch  aligned to 4: et_conv_tables_i8_scratch_bytes(shape), then the out_channels * filter_bytes of turned bits
 */
ET_CHECKED et_status et_conv_tables_grad_input_i8(const et_tables_shape *shape, const int8_t *g, const uint8_t *bits,
                                                  const float *g_scale, int32_t g_scale_step, const float *w_scale,
                                                  void *scratch, float *dx);

/* dx int32, the sums themselves, one g_scale for all; their scale is that of g times that of w (et_fixed_conv.h). */
ET_CHECKED et_status et_conv_tables_grad_input_sums_i8(const et_tables_shape *shape, const int8_t *g,
                                                       const uint8_t *bits, const float *g_scale, const float *w_scale,
                                                       void *scratch, int32_t *dx, float *dx_scale);

#endif
