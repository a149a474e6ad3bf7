/* See et_conv_tables_i8.h.
 *
 * Tables lie as [row of the ring][four channels][column][which signs], a word each. */
#include "et_conv_tables_i8.h"

#include "et_block.h"
#include "et_epilogue.h"
#include "et_fixed_scale.h"
#include "et_turn_signs.h"

/* Clang keeps fourteen sums in memory unless it is told. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL ET_UNROLL
#endif

enum { SET = 16 }; /* sums of four channels */

static const int8_t nothing[4] = {0, 0, 0, 0};

/* How tables lie in words, and which of them the bytes of a filter look into: `where` has, for each byte, how far its
 * first table is from the first of the ring, or the complement of it where the byte is of at most four channels. */
typedef struct {
    size_t row;
    size_t quad; /* from four channels to the next */
    const int32_t *where;
    const int32_t *end;
    bool two_lanes;
} tables;

/* All signed sums of four values of two pixels, the second in the upper halves. */
ET_INLINE void store_set(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t *set)
{
    const uint32_t sum = a + b, difference = a - b, other_sum = c + d, other_difference = c - d;
    set[15] = sum + other_sum;
    set[0] = 0u - set[15];
    set[3] = sum - other_sum;
    set[12] = 0u - set[3];
    set[7] = sum + other_difference;
    set[8] = 0u - set[7];
    set[11] = sum - other_difference;
    set[4] = 0u - set[11];
    set[13] = difference + other_sum;
    set[2] = 0u - set[13];
    set[1] = difference - other_sum;
    set[14] = 0u - set[1];
    set[5] = difference + other_difference;
    set[10] = 0u - set[5];
    set[9] = difference - other_difference;
    set[6] = 0u - set[9];
}

/* Channels beyond the last are 0. */
static ET_NOINLINE void build_sets(const int8_t *low, const int8_t *high, int32_t low_step, int32_t high_step,
                                   int32_t channels, size_t quad, uint32_t *set)
{
#define WORD(i) ((uint32_t)low[i] + ((uint32_t)high[i] << 16))
    for (; channels >= 4; channels -= 4, low += low_step, high += high_step, set += quad)
        store_set(WORD(0), WORD(1), WORD(2), WORD(3), set);
    if (channels > 0) {
        const uint32_t second = channels > 1 ? WORD(1) : 0, third = channels > 2 ? WORD(2) : 0;
        store_set(WORD(0), second, third, 0, set);
    }
#undef WORD
}

ET_INLINE void add_some(const uint32_t *set, uint32_t *sums, int32_t count)
{
    UNROLL
    for (int32_t j = 0; j < count; j++)
        sums[j] += set[j * SET];
    ET_BARRIER(); /* else more is loaded first than there are registers */
}

ET_INLINE void add_outputs(const uint32_t *set, uint32_t *sums, int32_t count)
{
    if (count == 14) {
        add_some(set, sums, 5);
        add_some(set + 5 * SET, sums + 5, 5);
        add_some(set + 10 * SET, sums + 10, 4);
    } else {
        add_some(set, sums, count);
    }
}

/* sums[lane][column][channel] of `count` neighbouring outputs, known when compiling, and some filters. */
ET_INLINE void sum_columns(const tables *t, const uint32_t *first, const uint8_t *bits, int32_t channels,
                           int32_t *sums, int32_t count)
{
    const uint32_t *const second = first + t->quad;
    const int32_t *const begin = t->where, *const end = t->end;
    const bool two_lanes = t->two_lanes;
    for (; channels > 0; channels--, sums++) {
        uint32_t sum[ET_TABLES_COLUMNS];
        UNROLL
        for (int32_t j = 0; j < count; j++)
            sum[j] = 0;
        for (const int32_t *where = begin; where != end; where++) {
            const uint32_t byte = *bits++;
            const int32_t at = *where;
            if (at < 0) {
                add_outputs(first + ~at + byte, sum, count);
                continue;
            }
            add_outputs(first + at + (byte & 15u), sum, count);
            add_outputs(second + at + (byte >> 4), sum, count);
        }
        if (two_lanes) {
            UNROLL
            for (int32_t j = 0; j < count; j++) {
                const int32_t low = (int16_t)(sum[j] & 0xffffu);
                sums[j * ET_TABLES_CHANNELS] = low;
                sums[(ET_TABLES_COLUMNS + j) * ET_TABLES_CHANNELS] = (int32_t)(sum[j] - (uint32_t)low) >> 16;
            }
        } else {
            UNROLL
            for (int32_t j = 0; j < count; j++)
                sums[j * ET_TABLES_CHANNELS] = (int32_t)sum[j];
        }
    }
}

#define DEFINE_SUM(count)                                                                                            \
    static ET_NOINLINE void sum_tables_##count(const tables *t, const uint32_t *first, const uint8_t *bits,          \
                                               int32_t channels, int32_t *sums)                                      \
    {                                                                                                                \
        sum_columns(t, first, bits, channels, sums, count);                                                          \
    }
DEFINE_SUM(14)
DEFINE_SUM(8)
DEFINE_SUM(7)
DEFINE_SUM(4)
DEFINE_SUM(1)

/* Sums of as many outputs as there are, up to fourteen; gives how many. */
static int32_t sum_tables(const tables *t, const uint32_t *first, const uint8_t *bits, int32_t channels,
                          int32_t left, int32_t *sums)
{
    if (left == 14 || left >= 22) {
        sum_tables_14(t, first, bits, channels, sums);
        return 14;
    }
    if (left == 7) {
        sum_tables_7(t, first, bits, channels, sums);
        return 7;
    }
    if (left >= 8) {
        sum_tables_8(t, first, bits, channels, sums);
        return 8;
    }
    if (left >= 4) {
        sum_tables_4(t, first, bits, channels, sums);
        return 4;
    }
    sum_tables_1(t, first, bits, channels, sums);
    return 1;
}

/* What one call works on. */
typedef struct {
    const et_conv_shape *shape;
    const uint8_t *bits;
    const et_epilogue *end;
    int8_t outside[4];
    int32_t half; /* rows of outputs of the first lane */
    size_t filter; /* bytes of the bits of one */
    int32_t *sums;
    int32_t *where; /* of tables */
    uint32_t *ring;
} work;

/* Row `row` of the tables, for `columns` of them, the first at column `left` of the image or beside it. */
static void build_row(const work *job, const tables *t, const int8_t *image, int32_t row, int32_t left,
                      int32_t columns)
{
    const et_conv_shape *shape = job->shape;
    const int32_t low_row = row - shape->pad_top, high_row = low_row + job->half;
    const ptrdiff_t line = (ptrdiff_t)shape->width * shape->channels;
    const bool has_low = low_row >= 0 && low_row < shape->height;
    const bool has_high = t->two_lanes && high_row >= 0 && high_row < shape->height;
    const int8_t *other = t->two_lanes ? job->outside : nothing;
    uint32_t *set = job->ring + (size_t)(row % shape->kernel_h) * t->row;
    const int8_t *low_pixel = has_low ? image + low_row * line : job->outside;
    const int8_t *high_pixel = has_high ? image + high_row * line : other;
    const int32_t start = left < 0 ? 0 : left < shape->width ? left : shape->width; /* pointers wait there */
    const ptrdiff_t first = (ptrdiff_t)start * shape->channels;
    const ptrdiff_t low_step = has_low ? shape->channels : 0, high_step = has_high ? shape->channels : 0;
    low_pixel += has_low ? first : 0;
    high_pixel += has_high ? first : 0;
    for (int32_t i = 0; i < columns; i++, left++, set += SET) {
        const bool inside = left >= 0 && left < shape->width;
        const bool low = inside && has_low, high = inside && has_high;
        build_sets(low ? low_pixel : job->outside, high ? high_pixel : other, low ? 4 : 0, high ? 4 : 0,
                   shape->channels, t->quad, set);
        if (inside) {
            low_pixel += low_step;
            high_pixel += high_step;
        }
    }
}

/* The sums of some columns become outputs of one row. */
static void finish_row(const work *job, const int32_t *sums, int32_t columns, int32_t first, int32_t channels,
                       char *y)
{
    et_epilogue_pixels(job->end, first, channels, columns, sums, ET_TABLES_CHANNELS,
                       y + (size_t)first * job->end->bytes, (size_t)job->shape->out_channels);
}

/* Fills `where` for a row of outputs whose first tap reads row `row` of the tables; distances from the start of the
 * ring. */
static void find_tables(const work *job, const tables *t, int32_t row)
{
    const int32_t channels = job->shape->channels, kernel_h = job->shape->kernel_h;
    int32_t *where = job->where, slot = row % kernel_h;
    for (int32_t kh = 0; kh < kernel_h; kh++, slot = slot + 1 < kernel_h ? slot + 1 : 0)
        for (int32_t kw = 0; kw < job->shape->kernel_w; kw++) {
            int32_t at = slot * (int32_t)t->row + kw * SET;
            for (int32_t c = 0; c < channels; c += 8, at += 2 * (int32_t)t->quad)
                *where++ = channels - c > 4 ? at : ~at;
        }
}

static void convolve_strip(const work *job, const int8_t *image, int32_t left, int32_t strip, bool two_lanes, char *y)
{
    const et_conv_shape *shape = job->shape;
    const size_t bytes = (size_t)shape->out_channels * job->end->bytes, line = (size_t)shape->out_width * bytes;
    const int32_t width = strip + shape->kernel_w - 1, quads = (shape->channels + 3) / 4;
    tables t;
    t.quad = (size_t)width * SET;
    t.row = t.quad * (size_t)quads;
    t.where = job->where;
    t.end = job->where + job->filter;
    t.two_lanes = two_lanes;
    int32_t built = 0;
    for (int32_t row = 0; row < job->half; row++) {
        for (; built < row + shape->kernel_h; built++)
            build_row(job, &t, image, built, left - shape->pad_left, width);
        find_tables(job, &t, row);
        const uint32_t *first = job->ring;
        char *low = y + (size_t)row * line + (size_t)left * bytes;
        int32_t count;
        for (int32_t column = 0; column < strip; column += count, first += count * SET) {
            count = 0;
            for (int32_t c = 0; c < shape->out_channels; c += ET_TABLES_CHANNELS) {
                const int32_t rest = shape->out_channels - c;
                const int32_t channels = rest < ET_TABLES_CHANNELS ? rest : ET_TABLES_CHANNELS;
                count = sum_tables(&t, first, job->bits + (size_t)c * job->filter, channels, strip - column, job->sums);
                finish_row(job, job->sums, count, c, channels, low + (size_t)column * bytes);
                if (two_lanes && row + job->half < shape->out_height)
                    finish_row(job, job->sums + ET_TABLES_COLUMNS * ET_TABLES_CHANNELS, count, c, channels,
                               low + (size_t)job->half * line + (size_t)column * bytes);
            }
        }
    }
}

/* Adds what a block of inputs gives to the sums of all filters. */
static ET_NOINLINE void sum_tables_dense(const uint32_t *block, const uint8_t *bits, size_t pairs, bool half,
                                         size_t filter, int32_t filters, int32_t *sums)
{
    for (; filters > 0; filters--, sums++, bits += filter) {
        const uint32_t *set = block;
        const uint8_t *byte = bits;
        uint32_t sum = (uint32_t)*sums;
        for (size_t left = pairs / 2; left > 0; left--, byte += 2, set += 4 * SET) {
            const uint32_t first = byte[0], second = byte[1];
            sum += set[first & 15u];
            sum += set[SET + (first >> 4)];
            sum += set[2 * SET + (second & 15u)];
            sum += set[3 * SET + (second >> 4)];
        }
        if (pairs % 2 != 0) {
            sum += set[*byte & 15u];
            sum += set[SET + (*byte >> 4)];
            byte++;
            set += 2 * SET;
        }
        if (half)
            sum += set[*byte];
        *sums = (int32_t)sum;
    }
}

static void dense(const work *job, const int8_t *x, char *y)
{
    const int32_t outputs = job->shape->out_channels;
    for (int32_t c = 0; c < outputs; c++)
        job->sums[c] = 0;
    const uint8_t *bits = job->bits;
    for (int32_t left = job->shape->channels; left > 0; left -= 8 * ET_TABLES_BLOCK) {
        const int32_t count = left < 8 * ET_TABLES_BLOCK ? left : 8 * ET_TABLES_BLOCK, quads = (count + 3) / 4;
        build_sets(x, nothing, 4, 0, count, SET, job->ring);
        sum_tables_dense(job->ring, bits, (size_t)(quads / 2), quads % 2 != 0, job->filter, outputs, job->sums);
        bits += ET_TABLES_BLOCK;
        x += count;
    }
    et_epilogue_row(job->end, 0, outputs, job->sums, y);
}

/* `end` with one scale of x for each image where scale_step is 1. */
static et_status convolve(const et_conv_shape *shape, int32_t strip, int32_t lanes, int32_t x_zero, const int8_t *x,
                          const uint8_t *bits, et_epilogue *end, int32_t scale_step, void *scratch, void *y)
{
    if (shape == NULL || x == NULL || bits == NULL || scratch == NULL || y == NULL || strip < 1 || shape->groups != 1)
        return ET_BAD_ARGUMENT;
    const bool is_dense = et_conv_tables_is_dense(shape), two_lanes = lanes == 2;
    work job;
    job.shape = shape;
    job.bits = bits;
    job.end = end;
    job.half = two_lanes ? (shape->out_height + 1) / 2 : shape->out_height;
    job.filter = (size_t)shape->kernel_h * (size_t)shape->kernel_w * (((size_t)shape->channels + 7) / 8);
    job.sums = scratch;
    job.where = job.sums + (is_dense ? shape->out_channels : 2 * ET_TABLES_COLUMNS * ET_TABLES_CHANNELS);
    job.ring = (uint32_t *)(job.where + (is_dense ? 0 : job.filter));
    for (int32_t i = 0; i < 4; i++)
        job.outside[i] = (int8_t)x_zero;
    const ptrdiff_t image = (ptrdiff_t)shape->height * shape->width * shape->channels;
    const size_t bytes = (size_t)shape->out_channels * end->bytes;
    char *to = y;
    for (int32_t n = 0; n < shape->batch; n++, x += image) {
        if (is_dense)
            dense(&job, x, to);
        else
            for (int32_t left = 0; left < shape->out_width; left += strip) {
                const int32_t rest = shape->out_width - left;
                convolve_strip(&job, x, left, rest < strip ? rest : strip, two_lanes, to);
            }
        to += (size_t)shape->out_height * (size_t)shape->out_width * bytes;
        if (scale_step != 0)
            end->x_scale++;
    }
    return ET_OK;
}

et_status et_conv_tables_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes, int32_t x_zero, const int8_t *x,
                            const uint8_t *bits, const float *x_scale, const float *w_scale, int32_t w_scale_step,
                            const float *bias, const int32_t *start, void *scratch, float *y)
{
    et_epilogue end = et_epilogue_real(x_scale, w_scale, w_scale_step, bias, start);
    return convolve(shape, strip, lanes, x_zero, x, bits, &end, 0, scratch, y);
}

et_status et_conv_tables_codes_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes, int32_t x_zero,
                                  int32_t levels, const int8_t *x, const uint8_t *bits, const int32_t *thresholds,
                                  const int8_t *direction, void *scratch, int8_t *y)
{
    et_epilogue end = et_epilogue_codes(thresholds, levels, direction);
    return convolve(shape, strip, lanes, x_zero, x, bits, &end, 0, scratch, y);
}

et_status et_conv_tables_sums_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes, const int8_t *x,
                                 const uint8_t *bits, const float *x_scale, const float *w_scale, void *scratch,
                                 int32_t *y, float *y_scale)
{
    et_epilogue end = et_epilogue_sums();
    *y_scale = et_fixed_product(*x_scale, *w_scale);
    return convolve(shape, strip, lanes, 0, x, bits, &end, 0, scratch, y);
}

/* [filters][taps][inputs] becomes [inputs][taps backwards][filters]. */
static void turn_bits(size_t filters, size_t taps, size_t inputs, const uint8_t *bits, uint8_t *turned)
{
    const size_t tap_bytes = (inputs + 7) / 8, filter_bytes = taps * tap_bytes;
    const size_t turned_tap = (filters + 7) / 8, turned_input = taps * turned_tap;
    for (size_t f = 0; f < filters; f += 8)
        for (size_t tap = 0; tap < taps; tap++)
            for (size_t c = 0; c < inputs; c += 8) {
                const uint8_t *from = bits + f * filter_bytes + tap * tap_bytes + c / 8;
                uint8_t *to = turned + c * turned_input + (taps - 1 - tap) * turned_tap + f / 8;
                if (filters - f >= 8 && inputs - c >= 8)
                    et_turn_whole(from, filter_bytes, to, turned_input);
                else
                    et_turn_part(from, filter_bytes, filters - f, to, turned_input, inputs - c);
            }
}

et_status et_conv_tables_grad_input_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes, const int8_t *g,
                                       const uint8_t *bits, const float *g_scale, int32_t g_scale_step,
                                       const float *w_scale, void *scratch, float *dx)
{
    if (shape == NULL || bits == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    uint8_t *turned = scratch;
    turn_bits((size_t)shape->channels, (size_t)shape->kernel_h * (size_t)shape->kernel_w,
              (size_t)shape->out_channels, bits, turned);
    et_epilogue end = et_epilogue_real(g_scale, w_scale, 0, NULL, NULL);
    return convolve(shape, strip, lanes, 0, g, turned, &end, g_scale_step,
                    turned + et_conv_tables_turned_bytes(shape), dx);
}

et_status et_conv_tables_grad_input_sums_i8(const et_conv_shape *shape, int32_t strip, int32_t lanes, const int8_t *g,
                                            const uint8_t *bits, const float *g_scale, const float *w_scale,
                                            void *scratch, int32_t *dx, float *dx_scale)
{
    if (shape == NULL || bits == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    uint8_t *turned = scratch;
    turn_bits((size_t)shape->channels, (size_t)shape->kernel_h * (size_t)shape->kernel_w,
              (size_t)shape->out_channels, bits, turned);
    et_epilogue end = et_epilogue_sums();
    *dx_scale = et_fixed_product(*g_scale, *w_scale);
    return convolve(shape, strip, lanes, 0, g, turned, &end, 0, turned + et_conv_tables_turned_bytes(shape), dx);
}
