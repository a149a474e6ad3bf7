/* See et_stream_b1.h. */
#include "et_stream_b1.h"

#include "et_ones.h"

/* What a power of two makes of a sum. */
static inline int32_t shifted_b1(int32_t sum, int32_t factor, uint32_t right, uint32_t half)
{
    (void)half;
    return (int32_t)((uint32_t)sum << factor) >> right;
}

#define ET_SCALED(sum, factor, right, half) shifted_b1(sum, factor, right, half)
#define ET_BLOCK et_block_b1
#define ET_PROJECTION et_projection_b1
#include "et_stream_block.inc"

et_status et_signs_b1(size_t rows, size_t channels, const int16_t *codes, const int16_t *thresholds, uint8_t *bits)
{
    if (channels == 0 || codes == NULL || thresholds == NULL || bits == NULL)
        return ET_BAD_ARGUMENT;
    for (; rows != 0; --rows) {
        const int16_t *threshold = thresholds;
        size_t left = channels;
        ET_HIDE(rows);
        for (; left >= 8; left -= 8, codes += 8, threshold += 8) {
            uint32_t below = 0; /* from the last channel down, each sign shifted in from the right */
            ET_HIDE(left);
            below = (uint32_t)(codes[7] < threshold[7]);
            below = below + below + (uint32_t)(codes[6] < threshold[6]);
            below = below + below + (uint32_t)(codes[5] < threshold[5]);
            below = below + below + (uint32_t)(codes[4] < threshold[4]);
            below = below + below + (uint32_t)(codes[3] < threshold[3]);
            below = below + below + (uint32_t)(codes[2] < threshold[2]);
            below = below + below + (uint32_t)(codes[1] < threshold[1]);
            below = below + below + (uint32_t)(codes[0] < threshold[0]);
            *bits++ = (uint8_t)~below;
        }
        if (left != 0) {
            uint32_t byte = 0;
            for (uint32_t j = 0; j < left; ++j)
                byte |= (uint32_t)(*codes++ >= threshold[j]) << j;
            *bits++ = (uint8_t)byte;
        }
    }
    return ET_OK;
}

et_status et_stream_average_b1(const et_average_shape_b1 *shape, const int16_t *codes, int16_t *y)
{
    if (shape == NULL || codes == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    const int32_t half = (int32_t)(((uint32_t)1 << shape->shift) >> 1);
    for (int32_t rows = shape->rows; rows != 0; rows--, codes += shape->window_row) {
        const int16_t *window = codes;
        ET_HIDE(rows);
        for (int32_t columns = shape->columns; columns != 0; columns--, window += shape->window_column) {
            ET_HIDE(columns);
            for (int32_t c = 0; c < shape->channels; c++) {
                const int16_t *row = window + c;
                int32_t sum = half;
                for (int32_t i = shape->window_rows; i != 0; i--, row += shape->row) {
                    const int16_t *code = row;
                    ET_HIDE(i);
                    for (int32_t j = shape->window_columns; j != 0; j--, code += shape->channels) {
                        ET_HIDE(j);
                        sum += *code;
                    }
                }
                *y++ = (int16_t)(sum >> shape->shift);
            }
        }
    }
    return ET_OK;
}
