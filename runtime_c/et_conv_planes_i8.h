/* Convolution of small codes with weights of +1 and -1, one bit each, by bit planes: no products.
 *
 *   x        int8 [batch][height][width][channels], codes 0 ... 2^planes - 1
 *   bits     uint8 [out_channels][kernel_h * kernel_w][ceil(channels / 8)]: bit j of byte b is that of channel 8 b + j,
 *            1 for +1 and 0 for -1; bits beyond the last channel are 0. A filter has at least 4 bytes.
 *   y        [batch][out_height][out_width][out_channels]; overlaps nothing that is read
 *   scratch  et_conv_planes_i8_scratch_bytes(shape), aligned to 4
 * There is one group. Taps on padding read the code 0.
 *
 * Plane p of the inputs holds bit p of every code, and
 *     sum of s_i x_i = 2 * (sum over p of 2^p * ones(plane p and bits)) - sum of x_i
 * (Zhou et al., DoReFa-Net, arXiv 1606.06160, section 2.2, for weights of one bit). The planes of an image are made once,
 * with zeros around them. Those that an output reads are gathered as words, and all filters are counted on them: with an
 * instruction that counts ones, or by full adders that keep ones, twos and fours of whole words until a row ends.
 *
 * A filter is read as the aligned words that hold it. Gathered planes are moved to where it begins in its first word, and
 * their zeros leave out what is of its neighbours.
 * Bits: sums are exact, so they have no order; the rest is said in et_epilogue.h. The same for every build.
 */
#ifndef ET_CONV_PLANES_I8_H
#define ET_CONV_PLANES_I8_H

#include "et_base.h"

enum { ET_MOST_PLANES = 4 };

/* All distances are given, so that nothing is multiplied to find an element. */
typedef struct {
    int32_t batch;
    int32_t planes;
    int32_t image;        /* codes of an image of x */
    int32_t out_channels;
    int32_t out_height;
    int32_t out_width;
    int32_t block;        /* pixels whose sums wait for the epilogue, at most */
    int32_t block_sums;   /* block * out_channels */
    /* Packing. A run is pixels whose bits join without gaps: a row, or one pixel. */
    int32_t rows;
    int32_t runs;         /* of a row */
    int32_t run_codes;
    int32_t run_bytes;
    int32_t first;        /* bytes from the start of a plane to the first pixel that is not padding */
    int32_t line;         /* bytes from row to row */
    int32_t plane;        /* bytes of a plane, padding included: a multiple of 4 */
    int32_t all_planes;   /* planes * plane */
    int32_t padded;       /* 1 where there is padding */
    /* Gathering. A tap run is bytes of neighbouring taps that join, or those of one. */
    int32_t step_h;       /* bytes from row to row of outputs */
    int32_t step_w;
    int32_t taps_h;
    int32_t taps_w;       /* tap runs of a row of taps */
    int32_t tap_row;      /* bytes from a row of taps to the next */
    int32_t tap_step;     /* bytes from tap run to tap run */
    int32_t tap_bytes;    /* of a tap run */
    int32_t unit;         /* 1, 2 or 4 bytes: all of these are multiples of it */
    /* Counting. */
    int32_t filter_bytes;
    int32_t words;        /* that hold a filter, wherever it begins */
    int32_t all_words;    /* planes * words */
} et_planes_shape;

/* Bytes of scratch: sums, gathered planes as they are and moved, the first and the last filter, the image. */
static inline size_t et_conv_planes_i8_scratch_bytes(const et_planes_shape *shape)
{
    return 4 * ((size_t)shape->block_sums + 2 * (size_t)shape->all_words + 2 * (size_t)shape->words)
           + (size_t)shape->all_planes;
}

/* y float32, as et_epilogue_real has it. */
ET_CHECKED et_status et_conv_planes_i8(const et_planes_shape *shape, const int8_t *x, const uint8_t *bits,
                                       const float *x_scale, const float *w_scale, int32_t w_scale_step,
                                       const float *bias, const int32_t *start, void *scratch, float *y);

/* y int8, as et_epilogue_codes has it. */
ET_CHECKED et_status et_conv_planes_codes_i8(const et_planes_shape *shape, int32_t levels, const int8_t *x,
                                             const uint8_t *bits, const int32_t *thresholds, const int8_t *direction,
                                             void *scratch, int8_t *y);

/* y int32, the sums themselves; their scale is that of x times that of w (et_fixed_conv.h). */
ET_CHECKED et_status et_conv_planes_sums_i8(const et_planes_shape *shape, const int8_t *x, const uint8_t *bits,
                                            const float *x_scale, const float *w_scale, void *scratch, int32_t *y,
                                            float *y_scale);

#endif
