/* See et_sign_conv.h.
 *
 * Sums lie as [row][group][four channels][which signs][column], so that one pattern of signs addresses neighbouring
 * outputs. Columns on padding, or between the pixels of a strided gradient, are zeros. */
#include "et_sign_conv.h"

#include "et_block.h"

/* What follows from the shape. */
typedef struct {
    size_t channels; /* of one group */
    size_t quads;    /* sets of four channels of one group */
    size_t patterns; /* sums of each */
    size_t width;
    size_t row; /* floats of a row of sums */
    size_t bytes; /* of one tap of one output channel */
    int32_t first; /* what column 0 of the table is, before the division */
} layout;

static layout layout_of(const et_sign_conv_shape *shape)
{
    layout l;
    l.channels = (size_t)(shape->source_c / shape->groups);
    l.quads = (l.channels + 3) / 4;
    l.patterns = l.channels < 4 ? (size_t)1 << l.channels : 16;
    l.width = (size_t)shape->table_width;
    l.row = (size_t)shape->groups * l.quads * l.patterns * l.width;
    l.bytes = (l.channels + 7) / 8;
    l.first = shape->column_start + (shape->column_tap < 0 ? (shape->kernel_w - 1) * shape->column_tap : 0);
    return l;
}

/* The pixel at a position, or -1. */
static int32_t pixel_at(int32_t position, int32_t divisor, int32_t size)
{
    if (position < 0 || position % divisor != 0 || position / divisor >= size)
        return -1;
    return position / divisor;
}

/* All signed sums of `count` values, stored `step` apart. */
static void store_sums(const float *x, size_t count, float *sums, size_t step)
{
    float all[16];
    all[0] = -x[0];
    all[1] = x[0];
    for (size_t j = 1; j < count; ++j) {
        const size_t half = (size_t)1 << j;
        for (size_t e = 0; e < half; ++e) {
            all[half + e] = all[e] + x[j];
            all[e] = all[e] - x[j];
        }
    }
    for (size_t e = 0; e < (size_t)1 << count; ++e)
        sums[e * step] = all[e];
}

static void build_row(const et_sign_conv_shape *shape, const layout *l, const float *x, float *sums)
{
    for (size_t column = 0; column < l->width; ++column) {
        const int32_t source = pixel_at((int32_t)column + l->first, shape->column_divisor, shape->source_w);
        float *set = sums + column;
        if (source < 0) {
            for (size_t i = 0; i < l->row; i += l->width)
                set[i] = 0.0f;
            continue;
        }
        const float *pixel = x + (size_t)source * (size_t)shape->source_c;
        for (int32_t group = 0; group < shape->groups; ++group, pixel += l->channels)
            for (size_t c = 0; c < l->channels; c += 4, set += l->patterns * l->width)
                store_sums(pixel + c, l->channels - c < 4 ? l->channels - c : 4, set, l->width);
    }
}

/* One output channel of `count` neighbouring outputs, `count` at most 8 and known when compiling. */
ET_INLINE void outputs_of(
    const et_sign_conv_shape *shape, const layout *l, const float *sums, const float *zeros, const int32_t *rows,
    size_t group, size_t column, const uint8_t *bits, float start, size_t count, size_t scale, float *y)
{
    float acc[8];
    ET_UNROLL
    for (size_t j = 0; j < count; ++j)
        acc[j] = start;
    for (int32_t kh = 0; kh < shape->kernel_h; ++kh) {
        const bool meets = rows[kh] >= 0;
        const size_t step = meets ? l->width : 0, next = meets ? l->patterns * l->width : 0;
        const float *const row = meets ? sums + (size_t)rows[kh] * l->row + group * l->quads * next : zeros;
        for (int32_t kw = 0; kw < shape->kernel_w; ++kw) {
            const float *set = row + column + (size_t)(kw * shape->column_tap + shape->column_start - l->first);
            for (size_t q = 0; q < l->quads; q += 2) {
                const unsigned byte = *bits++;
                const float *sum = set + (byte & 15u) * step;
                ET_UNROLL
                for (size_t j = 0; j < count; ++j)
                    acc[j] += sum[j * scale];
                set += next;
                if (q + 1 < l->quads) {
                    sum = set + (byte >> 4) * step;
                    ET_UNROLL
                    for (size_t j = 0; j < count; ++j)
                        acc[j] += sum[j * scale];
                    set += next;
                }
            }
        }
    }
    ET_UNROLL
    for (size_t j = 0; j < count; ++j)
        y[j * (size_t)shape->out_c] = acc[j];
}

/* One row of outputs. */
static void output_row(
    const et_sign_conv_shape *shape, const layout *l, const float *sums, const float *zeros, const int32_t *rows,
    const uint8_t *bits, const float *bias, float *y)
{
    const size_t width = (size_t)shape->out_w, scale = (size_t)shape->column_scale;
    const size_t of_group = (size_t)(shape->out_c / shape->groups);
    const size_t taps = (size_t)(shape->kernel_h * shape->kernel_w);
    for (size_t o = 0; o < (size_t)shape->out_c; ++o, bits += taps * l->bytes) {
        const float start = bias != NULL ? bias[o] : 0.0f;
        const size_t group = o / of_group;
        size_t ow = 0;
#define BLOCK(count, scale)                                                                                       \
    for (; ow + (count) <= width; ow += (count))                                                                  \
    outputs_of(shape, l, sums, zeros, rows, group, ow * (scale), bits, start, count, scale,                       \
        y + ow * (size_t)shape->out_c + o)
        if (scale == 1) {
            BLOCK(8, 1);
            BLOCK(4, 1);
            BLOCK(2, 1);
        } else {
            BLOCK(4, scale);
        }
        BLOCK(1, scale);
#undef BLOCK
    }
}

et_status et_sign_conv_f32(
    const et_sign_conv_shape *shape, const float *x, const uint8_t *bits, const float *bias, void *scratch, float *y)
{
    if (shape == NULL || x == NULL || bits == NULL || scratch == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    const layout l = layout_of(shape);
    float *const sums = scratch;
    float *const zeros = sums + (size_t)shape->table_rows * l.row;
    int32_t *const rows = (int32_t *)(void *)(zeros + l.width);
    for (size_t i = 0; i < l.width; ++i)
        zeros[i] = 0.0f;
    const size_t source_row = (size_t)shape->source_w * (size_t)shape->source_c;
    for (int32_t n = 0; n < shape->batch; ++n, x += source_row * (size_t)shape->source_h) {
        int32_t built = 0;
        for (int32_t oh = 0; oh < shape->out_h; ++oh, y += (size_t)shape->out_w * (size_t)shape->out_c) {
            int32_t low = shape->source_h, high = -1;
            for (int32_t kh = 0; kh < shape->kernel_h; ++kh) {
                const int32_t position = oh * shape->row_scale + kh * shape->row_tap + shape->row_start;
                const int32_t source = pixel_at(position, shape->row_divisor, shape->source_h);
                rows[kh] = source < 0 ? -1 : source % shape->table_rows;
                if (source >= 0 && source < low)
                    low = source;
                if (source > high)
                    high = source;
            }
            if (high >= 0 && built < low)
                built = low;
            for (; built <= high; ++built) {
                const size_t slot = (size_t)(built % shape->table_rows);
                build_row(shape, &l, x + (size_t)built * source_row, sums + slot * l.row);
            }
            output_row(shape, &l, sums, zeros, rows, bits, bias, y);
        }
    }
    return ET_OK;
}

et_status et_transpose_signs(
    size_t groups, size_t taps, size_t inputs, size_t outputs, const uint8_t *bits, uint8_t *transposed)
{
    if (bits == NULL || transposed == NULL)
        return ET_BAD_ARGUMENT;
    const size_t bytes = (inputs + 7) / 8;
    for (size_t group = 0; group < groups; ++group, bits += outputs * taps * bytes)
        for (size_t i = 0; i < inputs; ++i)
            for (size_t tap = 0; tap < taps; ++tap)
                for (size_t o = 0; o < outputs; o += 8) {
                    const uint8_t *from = bits + (o * taps + tap) * bytes + i / 8;
                    const size_t left = outputs - o < 8 ? outputs - o : 8;
                    unsigned byte = 0;
                    for (size_t j = 0; j < left; ++j, from += taps * bytes)
                        byte |= ((unsigned)*from >> i % 8 & 1u) << j;
                    *transposed++ = (uint8_t)byte;
                }
    return ET_OK;
}
