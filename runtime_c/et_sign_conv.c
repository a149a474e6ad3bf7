/* See et_sign_conv.h.
 *
 * A small core keeps sums as [row][group][four channels][column][which signs], so that one pattern of signs addresses
 * neighbouring outputs through constant distances; a core with vectors as [...][which signs][column], so that they lie
 * side by side. Columns on padding, or between the pixels of a strided gradient, are zeros. A PC needs no tables. */
#include "et_sign_conv.h"

#include "et_block.h"
#include "et_tile.h"
#include "et_turn_signs.h"

#if ET_LANES > 4 && !ET_SCALAR_CORE
#include "et_sign_conv_lanes.inc"
#else

/* Clang keeps many sums in memory unless it is told. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL ET_UNROLL
#endif

/* All signed sums of `count` values, at most 4, stored `step` apart. */
ET_INLINE void store_sums(const float *x, int32_t count, float *sums, int32_t step)
{
    float all[16];
    all[0] = -x[0];
    all[1] = x[0];
    UNROLL
    for (int32_t j = 1; j < count; ++j) {
        const int32_t half = 1 << j;
        UNROLL
        for (int32_t e = 0; e < half; ++e) {
            all[half + e] = all[e] + x[j];
            all[e] = all[e] - x[j];
        }
    }
    UNROLL
    for (int32_t e = 0; e < 1 << count; ++e, sums += step)
        *sums = all[e];
}

/* The sums of all channels of a pixel; `set`: where its first ones go, `step` floats from pattern to pattern. */
static void build_pixel(const et_sign_conv_shape *shape, const float *pixel, float *set, int32_t step)
{
    for (int32_t group = shape->groups; group > 0; --group) {
        int32_t left = shape->channels;
        for (; left >= 4; left -= 4, pixel += 4) {
            store_sums(pixel, 4, set, step);
            set += shape->quad;
            ET_OPAQUE(set);
        }
        if (left == 0)
            continue;
        if (left == 3)
            store_sums(pixel, 3, set, step);
        else if (left == 2)
            store_sums(pixel, 2, set, step);
        else
            store_sums(pixel, 1, set, step);
        pixel += left;
        set += shape->quad;
    }
}

static void build_nothing(const et_sign_conv_shape *shape, float *set, int32_t step)
{
    for (int32_t left = shape->row; left > 0; left -= shape->quad, set += shape->quad) {
        float *at = set;
        for (int32_t e = 1 << shape->pattern_bits; e > 0; --e, at += step)
            *at = 0.0f;
    }
}

#if ET_SCALAR_CORE

static void build_row(const et_sign_conv_shape *shape, const float *x, float *sums)
{
    for (int32_t column = 0; column < shape->table_width; ++column, sums += 1 << shape->pattern_bits) {
        const int32_t source = shape->columns[column];
        if (source < 0)
            build_nothing(shape, sums, 1);
        else
            build_pixel(shape, x + source, sums, 1);
    }
}

#define ADD(index)                                    \
    {                                                 \
        const float *sum = set + (index);             \
        UNROLL                                        \
        for (int32_t j = 0; j < (COUNT); ++j) {       \
            acc[j] += *sum;                           \
            sum += (STEP);                            \
        }                                             \
        set += quad;                                  \
        ET_OPAQUE(set);                               \
    }

/* One filter for COUNT neighbouring outputs, whose sums are STEP floats apart. sums: of the group, column of the first. */
#define DEFINE_OUTPUTS(NAME)                                                                                           \
    static ET_NOINLINE void NAME(                                                                                      \
        const et_sign_conv_shape *shape, const float *sums, const int32_t *rows, const uint8_t *bits, float start,     \
        int32_t step, float *y)                                                                                        \
    {                                                                                                                  \
        const int32_t quad = shape->quad, channels = shape->channels;                                                  \
        float acc[COUNT];                                                                                              \
        (void)step;                                                                                                    \
        UNROLL                                                                                                         \
        for (int32_t j = 0; j < (COUNT); ++j)                                                                          \
            acc[j] = start;                                                                                            \
        for (const int32_t *end = rows + shape->kernel_h; rows != end; ++rows) {                                       \
            if (*rows < 0) { /* however many zeros are added, it is as one */                                          \
                UNROLL                                                                                                 \
                for (int32_t j = 0; j < (COUNT); ++j)                                                                  \
                    acc[j] += 0.0f;                                                                                    \
                bits += shape->row_bytes;                                                                              \
                continue;                                                                                              \
            }                                                                                                          \
            const float *line = sums + *rows;                                                                          \
            for (int32_t k = 0; k < shape->kernel_w; ++k) {                                                            \
                const float *set = line + (shape->taps[k] << shape->pattern_bits);                                     \
                int32_t left = channels;                                                                               \
                for (; left > 4; left -= 8) {                                                                          \
                    const uint32_t byte = *bits++;                                                                     \
                    ADD(byte & 15u)                                                                                    \
                    ADD(byte >> 4)                                                                                     \
                }                                                                                                      \
                if (left > 0) {                                                                                        \
                    const uint32_t byte = *bits++;                                                                     \
                    ADD(byte & 15u)                                                                                    \
                }                                                                                                      \
                ET_OPAQUE(bits);                                                                                       \
            }                                                                                                          \
        }                                                                                                              \
        UNROLL                                                                                                         \
        for (int32_t j = 0; j < (COUNT); ++j, y += shape->out_c)                                                       \
            *y = acc[j];                                                                                               \
    }

#define STEP 16
#define COUNT 14
DEFINE_OUTPUTS(outputs_14)
#undef COUNT
#define COUNT 8
DEFINE_OUTPUTS(outputs_8)
#undef COUNT
#define COUNT 7
DEFINE_OUTPUTS(outputs_7)
#undef COUNT
#define COUNT 4
DEFINE_OUTPUTS(outputs_4)
#undef COUNT
#define COUNT 2
DEFINE_OUTPUTS(outputs_2)
#undef COUNT
#undef STEP
#define COUNT 7
#define STEP 2
DEFINE_OUTPUTS(outputs_7_of_one_channel)
#undef STEP
#define STEP 8
DEFINE_OUTPUTS(outputs_7_of_three_channels)
#undef STEP
#define STEP 32
DEFINE_OUTPUTS(outputs_7_of_every_second_column)
#undef COUNT
#undef STEP
#define STEP step
#define COUNT 4
DEFINE_OUTPUTS(outputs_4_apart)
#undef COUNT
#define COUNT 1
DEFINE_OUTPUTS(outputs_1)
#undef COUNT
#undef STEP

/* How many neighbouring outputs are summed at once, for their distance in the table; 0 stands for any. Best ones first. */
typedef struct {
    int32_t step;
    int32_t count;
    void (*sum)(
        const et_sign_conv_shape *, const float *, const int32_t *, const uint8_t *, float, int32_t, float *);
} output_block;

static const output_block blocks[] = {
    {16, 14, outputs_14},
    {16, 8, outputs_8},
    {16, 7, outputs_7},
    {16, 4, outputs_4},
    {16, 2, outputs_2},
    {2, 7, outputs_7_of_one_channel},
    {8, 7, outputs_7_of_three_channels},
    {32, 7, outputs_7_of_every_second_column},
    {0, 4, outputs_4_apart},
    {0, 1, outputs_1},
};

/* One filter for one output of one tap, many channels: a dense layer. */
static ET_NOINLINE float dense_output(const float *set, int32_t channels, const uint8_t *bits, float start)
{
    enum { QUAD = 16, AT_ONCE = 4 };
    float acc = start;
    for (; channels >= 8 * AT_ONCE; channels -= 8 * AT_ONCE, bits += AT_ONCE, set += 2 * AT_ONCE * QUAD) {
        UNROLL
        for (int32_t i = 0; i < AT_ONCE; ++i) {
            const uint32_t byte = bits[i];
            acc += set[2 * i * QUAD + (int32_t)(byte & 15u)];
            acc += set[(2 * i + 1) * QUAD + (int32_t)(byte >> 4)];
        }
    }
    for (; channels > 0; channels -= 8, ++bits, set += 2 * QUAD) {
        acc += set[*bits & 15u];
        if (channels > 4)
            acc += set[QUAD + (*bits >> 4)];
    }
    return acc;
}

static void output_row(
    const et_sign_conv_shape *shape, const float *sums, const int32_t *rows, const uint8_t *bits, const float *bias,
    float *y)
{
    const int32_t step = shape->column_scale << shape->pattern_bits, out_c = shape->out_c;
    const bool is_dense = shape->table_width == 1 && shape->kernel_h == 1 && shape->kernel_w == 1
                          && shape->pattern_bits == 4 && rows[0] >= 0;
    for (int32_t group = shape->groups; group > 0; --group) {
        for (int32_t o = shape->filters; o > 0; --o) {
            const float start = bias != NULL ? *bias++ : 0.0f, *column = sums;
            float *to = y;
            const output_block *block = blocks;
            int32_t left = shape->out_w, count;
            if (is_dense)
                *y = dense_output(sums + rows[0], shape->channels, bits, start);
            for (; !is_dense; left -= count) {
                while (block->count > left || (block->step != 0 && block->step != step))
                    ++block;
                count = block->count;
                block->sum(shape, column, rows, bits, start, step, to);
                if (left == count)
                    break;
                for (int32_t j = count; j > 0; --j) {
                    column += step;
                    to += out_c;
                    ET_OPAQUE(column);
                    ET_OPAQUE(to);
                }
            }
            ++y;
            bits += shape->filter_bytes;
            ET_OPAQUE(bits);
        }
        sums += shape->group;
    }
}

#else

static void build_row(const et_sign_conv_shape *shape, const float *x, float *sums)
{
    for (int32_t column = 0; column < shape->table_width; ++column, ++sums) {
        const int32_t source = shape->columns[column];
        if (source < 0)
            build_nothing(shape, sums, shape->table_width);
        else
            build_pixel(shape, x + source, sums, shape->table_width);
    }
}

/* One filter for `count` neighbouring outputs, at most 8 and known when compiling, as is `scale`. */
ET_INLINE void outputs_of(
    const et_sign_conv_shape *shape, const float *sums, const int32_t *rows, const uint8_t *bits, float start,
    int32_t count, int32_t scale, float *y)
{
    const int32_t width = shape->table_width;
    float acc[8];
    for (int32_t j = 0; j < count; ++j)
        acc[j] = start;
    for (int32_t kh = 0; kh < shape->kernel_h; ++kh) {
        if (rows[kh] < 0) { /* however many zeros are added, it is as one */
            for (int32_t j = 0; j < count; ++j)
                acc[j] += 0.0f;
            bits += shape->row_bytes;
            continue;
        }
        for (int32_t kw = 0; kw < shape->kernel_w; ++kw) {
            const float *set = sums + rows[kh] + shape->taps[kw];
            for (int32_t left = shape->channels; left > 0; left -= 8) {
                const int32_t byte = *bits++;
                const float *sum = set + (byte & 15) * width;
                for (int32_t j = 0; j < count; ++j)
                    acc[j] += sum[j * scale];
                set += shape->quad;
                if (left <= 4)
                    break;
                sum = set + (byte >> 4) * width;
                for (int32_t j = 0; j < count; ++j)
                    acc[j] += sum[j * scale];
                set += shape->quad;
            }
        }
    }
    for (int32_t j = 0; j < count; ++j)
        y[j * shape->out_c] = acc[j];
}

static void output_row(
    const et_sign_conv_shape *shape, const float *sums, const int32_t *rows, const uint8_t *bits, const float *bias,
    float *y)
{
    const int32_t width = shape->out_w, scale = shape->column_scale;
    for (int32_t o = 0; o < shape->out_c; ++o, bits += shape->filter_bytes) {
        const float start = bias != NULL ? bias[o] : 0.0f, *group = sums + o / shape->filters * shape->group;
        int32_t ow = 0;
#define BLOCK(count, scale)                       \
    for (; ow + (count) <= width; ow += (count)) \
    outputs_of(shape, group + ow * (scale), rows, bits, start, count, scale, y + ow * shape->out_c + o)
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

#endif

static void sum_signs(
    const et_sign_conv_shape *shape, const float *x, const uint8_t *bits, const float *bias, float *sums, float *y)
{
    for (int32_t n = shape->batch; n > 0; --n, x += shape->source_image) {
        const int32_t *rows = shape->rows, *build = shape->builds;
        for (int32_t oh = shape->out_h; oh > 0; --oh, rows += shape->kernel_h, build += 3) {
            const float *from = x + build[0];
            int32_t slot = build[1];
            for (int32_t left = build[2]; left > 0; --left, from += shape->source_line) {
                build_row(shape, from, sums + slot);
                slot = slot + shape->row == shape->table ? 0 : slot + shape->row;
                ET_OPAQUE(slot);
            }
            output_row(shape, sums, rows, bits, bias, y);
            y += shape->out_line;
            ET_OPAQUE(y);
        }
    }
}

#endif

et_status et_sign_conv_f32(
    const et_sign_conv_shape *shape, const float *x, const uint8_t *bits, const float *bias, void *scratch, float *y)
{
    if (shape == NULL || x == NULL || bits == NULL || scratch == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    sum_signs(shape, x, bits, bias, scratch, y);
    return ET_OK;
}

/* Turns the bits of `inputs` channels, eight at a time; outputs are `filter` bytes apart, inputs become `turned` apart. */
static void turn_outputs(
    const uint8_t *from, size_t filter, size_t outputs, size_t inputs, size_t turned, uint8_t *transposed)
{
    for (; outputs >= 8; outputs -= 8, ++transposed) {
        const uint8_t *at = from;
        uint8_t *to = transposed;
        size_t left = inputs;
        for (; left >= 8; left -= 8, ++at, to += 8 * turned) {
            et_turn_whole(at, filter, to, turned);
            ET_OPAQUE(to);
            ET_OPAQUE(left);
        }
        if (left > 0)
            et_turn_part(at, filter, 8, to, turned, left);
        from += 8 * filter;
        ET_OPAQUE(from);
        ET_OPAQUE(outputs);
    }
    for (; outputs > 0 && inputs > 0; ++from, transposed += 8 * turned, inputs = inputs < 8 ? 0 : inputs - 8) {
        et_turn_part(from, filter, outputs, transposed, turned, inputs);
        ET_OPAQUE(transposed);
        ET_OPAQUE(from);
    }
}

et_status et_transpose_signs(
    size_t groups, size_t taps, size_t inputs, size_t outputs, size_t filter, size_t group, size_t turned,
    size_t turned_group, const uint8_t *bits, uint8_t *transposed)
{
    if (bits == NULL || transposed == NULL)
        return ET_BAD_ARGUMENT;
    const size_t tap_bytes = (inputs + 7) / 8, turned_tap = (outputs + 7) / 8;
    for (; groups > 0; --groups, bits += group, transposed += turned_group) {
        const uint8_t *from = bits;
        uint8_t *to = transposed;
        for (size_t tap = taps; tap > 0; --tap, from += tap_bytes, to += turned_tap)
            turn_outputs(from, filter, outputs, inputs, turned, to);
        ET_OPAQUE(bits);
        ET_OPAQUE(transposed);
    }
    return ET_OK;
}
