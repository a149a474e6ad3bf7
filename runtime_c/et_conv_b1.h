/* Convolution of signs with signs, one bit each, without a multiplication in any function named b1.
 *
 *   x       [batch][height][width][tap_bytes]: bit j of byte b is channel 8 b + j, 1 is +1 and 0 is -1; bits beyond the
 *           last channel are 0. Aligned to 4 bytes.
 *   w       [out_channels][taps][tap_bytes], alike
 *   words   [out_channels][words]: the bytes of w, each filter filled up with zeros
 *   starts  [region_count][out_channels]: channels * taps inside + 2 * ones of w at taps outside the image
 *   y       [batch][out_height][out_width][out_channels], int16: exact sums; taps on padding count as 0
 * channels * taps is at most 32767. What is written overlaps nothing that is read.
 *
 * The bits that an output reads are gathered as words, zeros for padding: y = start - 2 * ones(gathered xor word). With
 * an instruction that counts ones that is all; without, full adders first merge five words into three bit planes.
 * scratch: 8 * words bytes of gathered pixels; et_conv_b1 also needs 4 * out_channels * words for filters, and
 * 2 * (region_count * out_channels + taps) for starts, in this order. Aligned to 4 bytes.
 */
#ifndef ET_CONV_B1_H
#define ET_CONV_B1_H

#include "et_base.h"

/* Outputs that meet the same taps. Offsets are in elements: bytes of x, sums of y. */
typedef struct {
    int32_t source; /* what the first tap inside reads, for the first output */
    int32_t result; /* of the first output */
    int32_t products; /* channels * taps inside */
    int16_t rows;
    int16_t columns;
    int16_t first_tap; /* inside, of kernel_h * kernel_w */
    int16_t taps_h; /* 0 where all are outside */
    int16_t taps_w;
    int16_t first_byte; /* tap_bytes * first_tap */
    int16_t run; /* tap_bytes * taps_w */
} et_region_b1;

/* A layer: every step from one element to the next, so that nothing is multiplied. */
typedef struct {
    int32_t batch;
    int32_t x_image; /* bytes of x from image to image; the others are for a step of the output, or of a tap */
    int32_t y_image;
    int32_t x_row;
    int32_t x_column;
    int32_t y_row;
    int32_t out_channels;
    int32_t words; /* of a filter */
    int32_t all_words; /* of all filters */
    int32_t start_count; /* region_count * out_channels */
    int32_t taps;
    int32_t tap_row;
    int32_t tap_column;
    int32_t tap_bytes;
    int32_t kernel_row; /* bytes of a filter for one row of taps */
    int32_t kernel_w;
    int32_t joined; /* the taps of a row lie side by side in x */
    int32_t region_count;
    const et_region_b1 *regions;
} et_conv_shape_b1;

/* From packed signs. */
ET_CHECKED et_status et_conv_b1(const et_conv_shape_b1 *shape, const uint8_t *x, const uint8_t *w, void *scratch,
    int16_t *y);

/* From filters that were made before. */
ET_CHECKED et_status et_conv_packed_b1(const et_conv_shape_b1 *shape, const uint8_t *x, const uint32_t *words,
    const uint16_t *starts, void *scratch, int16_t *y);

#endif
