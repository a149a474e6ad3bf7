/* What the convolutions of integer codes have in common. Not for callers.
 *
 * Exact sums may be made in any order. A small core gathers the inputs of four pixels side by side into scratch, once
 * for all output channels, and sums tiles of four pixels by a few channels in registers; a PC sums tiles of four
 * pixels by sixteen channels in lanes.
 */
#ifndef ET_INTEGER_H
#define ET_INTEGER_H

#include "et_block.h"
#include "et_conv_shape.h"
#include "et_epilogue.h"
#include "et_line_axis.h"
#include "et_repeat.h"

#define ET_COLUMN 4 /* pixels whose inputs are gathered side by side */
#define ET_BLOCK_CHANNELS 16 /* channels that are summed before the epilogue takes them */

/* Steps through the pixels of images, row by row. */
typedef struct {
    int32_t image;
    int32_t row;
    int32_t column;
} et_pixel;

static inline void et_pixel_next(et_pixel *pixel, int32_t rows, int32_t columns)
{
    if (++pixel->column == columns) {
        pixel->column = 0;
        if (++pixel->row == rows) {
            pixel->row = 0;
            pixel->image++;
        }
    }
}

#endif
