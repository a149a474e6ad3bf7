/* See et_conv_tables_i8.h.
 *
 * Tables lie as [row of the ring][four channels][column][which signs], a word each. */
#include "et_conv_tables_i8.h"

#include "et_block.h"
#include "et_epilogue.h"
#include "et_lane_codes.h"
#include "et_turn_signs.h"

/* Clang keeps fourteen sums in memory unless it is told. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL ET_UNROLL
#endif

enum { SET = 16 }; /* sums of four channels */

static const int8_t nothing[4] = {0, 0, 0, 0};

/* All signed sums of four values; pixels of other lanes are in the upper parts of words. */
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

/* Where the channels of the pixels of a word are, and how far from four of them to the next: 0 outside of the image. */
typedef struct {
    const int8_t *lane[3];
    int32_t step[3];
} pixels;

/* Channels beyond the last are 0. `lanes`, 2 or 3, is known when compiling. */
ET_INLINE void build_lanes(const pixels *from, int32_t lanes, int32_t channels, int32_t quad, uint32_t *set)
{
    const int8_t *low = from->lane[0], *middle = from->lane[1], *high = from->lane[2];
    const int32_t low_step = from->step[0], middle_step = from->step[1], high_step = from->step[2];
#define WORD(i)                                                                                              \
    (lanes == 2 ? (uint32_t)low[i] + ((uint32_t)middle[i] << 16)                                             \
                : (uint32_t)low[i] + ((uint32_t)middle[i] << 11) + ((uint32_t)high[i] << 22))
    for (; channels >= 4; channels -= 4, low += low_step, middle += middle_step, set += quad) {
        ET_OPAQUE(low); /* else what is left of them is found by products */
        ET_OPAQUE(middle);
        ET_OPAQUE(set);
        store_set(WORD(0), WORD(1), WORD(2), WORD(3), set);
        if (lanes == 3) {
            high += high_step;
            ET_OPAQUE(high);
        }
    }
    if (channels > 0) {
        const uint32_t second = channels > 1 ? WORD(1) : 0, third = channels > 2 ? WORD(2) : 0;
        store_set(WORD(0), second, third, 0, set);
    }
#undef WORD
}

static ET_NOINLINE void build_two(const pixels *from, int32_t channels, int32_t quad, uint32_t *set)
{
    build_lanes(from, 2, channels, quad, set);
}

static ET_NOINLINE void build_three(const pixels *from, int32_t channels, int32_t quad, uint32_t *set)
{
    build_lanes(from, 3, channels, quad, set);
}

ET_INLINE void add_some(const uint32_t *set, uint32_t *sums, int32_t count, int32_t column)
{
    UNROLL
    for (int32_t j = 0; j < count; j++)
        sums[j] += set[j * column];
    ET_BARRIER(); /* else more is loaded first than there are registers */
}

ET_INLINE void add_outputs(const uint32_t *set, uint32_t *sums, int32_t count, int32_t column)
{
    if (count == 14) {
        add_some(set, sums, 5, column);
        add_some(set + 5 * column, sums + 5, 5, column);
        add_some(set + 10 * column, sums + 10, 4, column);
    } else {
        add_some(set, sums, count, column);
    }
}

/* What one call works on. `where` has, for each byte of a filter, how many bytes its first table is from the first of the
 * ring, or the complement of it where the byte is of at most four channels. */
typedef struct {
    const et_tables_shape *shape;
    const uint8_t *bits;
    const et_epilogue *end;
    int8_t outside[4];
    int32_t *sums;
    int32_t *where;
    uint32_t *ring;
    const int32_t *lane_words; /* thresholds, where sums of several lanes become codes together */
} work;

/* Sums of `count` neighbouring outputs, `column` words apart, both known when compiling, and some filters; as
 * sums[lane][output][channel], or two lanes in a word where they stay together. */
ET_INLINE void sum_columns(const work *job, const uint32_t *first, const uint8_t *bits, int32_t channels,
                           int32_t count, int32_t column)
{
    const char *const even = (const char *)first, *const odd = (const char *)(first + job->shape->quad);
    const int32_t *const begin = job->where, *end = begin + job->shape->filter_bytes;
    const bool apart = job->shape->lanes == 2 && job->shape->lane_codes == 0;
    int32_t *sums = job->sums;
    for (; channels > 0; channels--, sums++) {
        uint32_t sum[ET_TABLES_COLUMNS];
        UNROLL
        for (int32_t j = 0; j < count; j++)
            sum[j] = 0;
        ET_OPAQUE(end); /* else a counter goes along with the pointer */
        for (const int32_t *where = begin; where != end; where++) {
            const uint32_t byte = *bits++;
            const int32_t at = *where;
            if (at < 0) {
                add_outputs((const uint32_t *)(const void *)(even + ~at) + byte, sum, count, column);
                continue;
            }
            add_outputs((const uint32_t *)(const void *)(even + at) + (byte & 15u), sum, count, column);
            add_outputs((const uint32_t *)(const void *)(odd + at) + (byte >> 4), sum, count, column);
        }
        if (apart) {
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

#define DEFINE_SUM(count, stride)                                                                                    \
    static ET_NOINLINE void sum_tables_##count##_##stride(const work *job, const uint32_t *first,                    \
                                                          const uint8_t *bits, int32_t channels)                     \
    {                                                                                                                \
        sum_columns(job, first, bits, channels, count, (stride) * SET);                                              \
    }
DEFINE_SUM(14, 1)
DEFINE_SUM(8, 1)
DEFINE_SUM(7, 1)
DEFINE_SUM(4, 1)
DEFINE_SUM(1, 1) /* for any stride */
DEFINE_SUM(8, 2)
DEFINE_SUM(4, 2)

/* How many outputs, so far apart, are summed at once; 0 for any distance. Best ones first. */
typedef struct {
    int32_t count;
    int32_t column;
    void (*sum)(const work *, const uint32_t *, const uint8_t *, int32_t);
} output_block;

static const output_block blocks[] = {
    {14, SET, sum_tables_14_1}, {8, SET, sum_tables_8_1},     {7, SET, sum_tables_7_1}, {4, SET, sum_tables_4_1},
    {8, 2 * SET, sum_tables_8_2}, {4, 2 * SET, sum_tables_4_2}, {1, 0, sum_tables_1_1},
};

/* The block for the next of `left` outputs: what is left behind it should not be too little for another. */
static const output_block *choose_block(int32_t column, int32_t left)
{
    const output_block *block = blocks;
    while (block->count > left || (block->column != 0 && block->column != column)
           || (block->count == 14 && left > 14 && left < 22))
        block++;
    return block;
}

/* A row of x, or of the pixels of both lanes, whose tables come next. */
typedef struct {
    int32_t row;
    int32_t codes; /* from the start of the image */
    int32_t slot;  /* words from the start of the ring */
} place;

static void step_on(const et_tables_shape *shape, place *next)
{
    next->row++;
    next->codes += shape->line;
    next->slot = next->slot + shape->row == shape->table ? 0 : next->slot + shape->row;
    ET_OPAQUE(next->codes);
    ET_OPAQUE(next->slot);
}

/* The tables of a row, for `columns` pixels from pixel `column` on, `codes` from the start of the row. */
static void build_row(const work *job, const int8_t *image, const place *at, int32_t column, int32_t codes,
                      int32_t columns)
{
    const et_tables_shape *shape = job->shape;
    const uint32_t height = (uint32_t)shape->height, width = (uint32_t)shape->width;
    bool has[3];
    const int8_t *none[3];
    int32_t row = at->row;
    for (int32_t k = 0; k < 3; k++, row += shape->part_rows) {
        has[k] = k < shape->lanes && (uint32_t)row < height;
        none[k] = k < shape->lanes ? job->outside : nothing;
    }
    uint32_t *set = job->ring + at->slot;
    int32_t from = at->codes + codes;
    for (; columns > 0; columns--, column++, from += shape->channels, set += SET) {
        const bool inside = (uint32_t)column < width;
        pixels read;
        int32_t lane = from;
        ET_UNROLL
        for (int32_t k = 0; k < 3; k++, lane += shape->part_codes) {
            const bool real = inside && has[k];
            read.lane[k] = real ? image + lane : none[k];
            read.step[k] = real ? 4 : 0;
        }
        if (shape->lanes == 3)
            build_three(&read, shape->channels, shape->quad, set);
        else
            build_two(&read, shape->channels, shape->quad, set);
        ET_OPAQUE(from);
    }
}

/* Fills `where` for outputs whose first row of taps has its tables at `slot`. */
static void find_tables(const work *job, int32_t slot)
{
    const et_tables_shape *shape = job->shape;
    int32_t *where = job->where;
    for (int32_t kh = shape->kernel_h; kh > 0; kh--) {
        int32_t tap = slot;
        for (int32_t kw = shape->kernel_w; kw > 0; kw--) {
            int32_t at = tap;
            for (int32_t left = shape->channels; left > 0; left -= 8) {
                *where++ = left > 4 ? at << 2 : ~(at << 2);
                at += shape->quad << 1;
                ET_OPAQUE(at);
            }
            tap += shape->tap;
            ET_OPAQUE(tap);
        }
        slot += shape->tap_row;
        slot -= slot >= shape->table ? shape->table : 0;
        ET_OPAQUE(slot);
    }
}

/* The sums of some outputs of one row, and of those of the other lanes that there are, become what is wanted. */
static void finish(const work *job, int32_t columns, int32_t first, int32_t channels, int32_t lanes,
                   const int32_t *thresholds, char *y)
{
    const et_tables_shape *shape = job->shape;
    const et_epilogue *end = job->end;
    const size_t pitch = (size_t)shape->out_channels;
    y += first << end->power;
    if (shape->lane_codes != 0) {
        const et_lane_epilogue codes = {shape->lanes, end->levels, thresholds, end->direction + first};
        int8_t *rows[3] = {(int8_t *)y, (int8_t *)y, (int8_t *)y};
        if (lanes > 1)
            rows[1] += shape->part_elements;
        if (lanes > 2)
            rows[2] += shape->part_elements << 1;
        et_lane_codes(&codes, channels, columns, job->sums, ET_TABLES_CHANNELS, rows, pitch);
        return;
    }
    et_epilogue_pixels(end, first, channels, columns, job->sums, ET_TABLES_CHANNELS, y, pitch);
    if (lanes > 1)
        et_epilogue_pixels(end, first, channels, columns, job->sums + ET_TABLES_COLUMNS * ET_TABLES_CHANNELS,
                           ET_TABLES_CHANNELS, y + (shape->part_elements << end->power), pitch);
}

/* A row of outputs of a strip, in as many lanes as have one; y: the first element of the first. */
static void row_of_outputs(const work *job, int32_t strip, int32_t lanes, char *y)
{
    const et_tables_shape *shape = job->shape;
    const uint32_t *first = job->ring;
    const output_block *block;
    for (; strip > 0; strip -= block->count) {
        block = choose_block(shape->column, strip);
        const uint8_t *bits = job->bits;
        const int32_t *thresholds = job->lane_words;
        for (int32_t c = 0; c < shape->out_channels; c += ET_TABLES_CHANNELS) {
            const int32_t rest = shape->out_channels - c;
            const int32_t channels = rest < ET_TABLES_CHANNELS ? rest : ET_TABLES_CHANNELS;
            block->sum(job, first, bits, channels);
            finish(job, block->count, c, channels, lanes, thresholds, y);
            bits += shape->filter_bytes << 4; /* ET_TABLES_CHANNELS of them */
            thresholds += shape->lane_codes != 0 ? job->end->levels << 5 : 0; /* ET_LANE_WORDS each */
            ET_OPAQUE(bits);
        }
        for (int32_t j = block->count; j > 0; j--) {
            first += shape->column;
            y += shape->out_channels << job->end->power;
            ET_OPAQUE(first);
            ET_OPAQUE(y);
        }
    }
}

/* Outputs of `strip` columns; column, codes: where the first tap of the first one is in a row of x. */
static void convolve_strip(const work *job, const int8_t *image, int32_t strip, int32_t columns, int32_t column,
                           int32_t codes, char *y)
{
    const et_tables_shape *shape = job->shape;
    place next = {shape->top, shape->top_line, 0};
    int32_t top = shape->top, left = shape->out_height;
    for (int32_t rows = shape->part; rows > 0; rows--, left--, top += shape->stride_h) {
        while (next.row < top) /* no output reads it */
            step_on(shape, &next);
        for (; next.row < top + shape->span; step_on(shape, &next))
            build_row(job, image, &next, column, codes, columns);
        find_tables(job, next.slot);
        row_of_outputs(job, strip, 1 + (left > shape->part) + (left > shape->part << 1), y);
        y += shape->out_line << job->end->power;
        ET_OPAQUE(y);
        ET_OPAQUE(top);
    }
}

static void convolve_image(const work *job, const int8_t *image, char *y)
{
    const et_tables_shape *shape = job->shape;
    int32_t column = shape->left, codes = shape->left_codes;
    for (int32_t left = shape->out_width; left > 0; left -= shape->strip) {
        const bool last = left <= shape->strip;
        convolve_strip(job, image, last ? left : shape->strip, last ? shape->last_columns : shape->columns, column,
                       codes, y);
        column += shape->strip_pixels;
        codes += shape->strip_codes;
        for (int32_t j = shape->strip; j > 0; j--) {
            y += shape->out_channels << job->end->power;
            ET_OPAQUE(y);
        }
        ET_OPAQUE(column);
        ET_OPAQUE(codes);
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
    const et_tables_shape *shape = job->shape;
    const int32_t outputs = shape->out_channels;
    for (int32_t c = 0; c < outputs; c++)
        job->sums[c] = 0;
    const uint8_t *bits = job->bits;
    for (int32_t left = shape->channels; left > 0; left -= 8 * ET_TABLES_BLOCK) {
        const int32_t count = left < 8 * ET_TABLES_BLOCK ? left : 8 * ET_TABLES_BLOCK, quads = (count + 3) / 4;
        const pixels read = {{x, nothing, nothing}, {4, 0, 0}};
        build_two(&read, count, SET, job->ring);
        sum_tables_dense(job->ring, bits, (size_t)(quads / 2), quads % 2 != 0, (size_t)shape->filter_bytes, outputs,
                         job->sums);
        bits += ET_TABLES_BLOCK;
        x += count;
    }
    et_epilogue_row(job->end, 0, outputs, job->sums, y);
}

/* `end` with one scale of x for each image where scale_step is 1. */
static et_status convolve(const et_tables_shape *shape, int32_t x_zero, const int8_t *x, const uint8_t *bits,
                          et_epilogue *end, int32_t scale_step, void *scratch, void *y)
{
    if (x == NULL || bits == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    const bool is_dense = shape->strip == 0;
    work job;
    job.shape = shape;
    job.bits = bits;
    job.end = end;
    job.sums = scratch;
    job.where = job.sums + (is_dense ? shape->out_channels : 2 * ET_TABLES_COLUMNS * ET_TABLES_CHANNELS);
    job.ring = (uint32_t *)(job.where + (is_dense ? 0 : shape->filter_bytes));
    job.lane_words = NULL;
    if (shape->lane_codes != 0) {
        int32_t *words = job.sums + (et_conv_tables_i8_scratch_bytes(shape) >> 2);
        et_lane_thresholds(shape->lanes, shape->out_channels, end->levels, end->thresholds, words);
        job.lane_words = words;
    }
    for (int32_t i = 0; i < 4; i++)
        job.outside[i] = (int8_t)x_zero;
    char *to = y;
    for (int32_t n = shape->batch; n > 0; n--, x += shape->image) {
        if (is_dense)
            dense(&job, x, to);
        else
            convolve_image(&job, x, to);
        to += shape->out_image << end->power;
        if (scale_step != 0)
            end->x_scale++;
        ET_OPAQUE(x);
        ET_OPAQUE(to);
    }
    return ET_OK;
}

et_status et_conv_tables_i8(const et_tables_shape *shape, int32_t x_zero, const int8_t *x, const uint8_t *bits,
                            const float *x_scale, const float *w_scale, int32_t w_scale_step, const float *bias,
                            const int32_t *start, void *scratch, float *y)
{
    if (shape == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    et_epilogue end = et_epilogue_real(x_scale, w_scale, w_scale_step, bias, start);
    return convolve(shape, x_zero, x, bits, &end, 0, scratch, y);
}

et_status et_conv_tables_codes_i8(const et_tables_shape *shape, int32_t x_zero, int32_t levels, const int8_t *x,
                                  const uint8_t *bits, const int32_t *thresholds, const int8_t *direction,
                                  void *scratch, int8_t *y)
{
    if (shape == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    et_epilogue end = et_epilogue_codes(thresholds, levels, direction);
    return convolve(shape, x_zero, x, bits, &end, 0, scratch, y);
}

et_status et_conv_tables_sums_i8(const et_tables_shape *shape, const int8_t *x, const uint8_t *bits,
                                 const float *x_scale, const float *w_scale, void *scratch, int32_t *y, float *y_scale)
{
    if (shape == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    et_epilogue end = et_epilogue_sums(x_scale, w_scale, y_scale);
    return convolve(shape, 0, x, bits, &end, 0, scratch, y);
}

#include "et_conv_tables_grad.inc"

et_status et_conv_tables_grad_input_i8(const et_tables_shape *shape, const int8_t *g, const uint8_t *bits,
                                       const float *g_scale, int32_t g_scale_step, const float *w_scale, void *scratch,
                                       float *dx)
{
    if (shape == NULL || bits == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    et_epilogue end = et_epilogue_real(g_scale, w_scale, 0, NULL, NULL);
    return convolve(shape, 0, g, turn_bits(shape, bits, scratch), &end, g_scale_step, scratch, dx);
}

et_status et_conv_tables_grad_input_sums_i8(const et_tables_shape *shape, const int8_t *g, const uint8_t *bits,
                                            const float *g_scale, const float *w_scale, void *scratch, int32_t *dx,
                                            float *dx_scale)
{
    if (shape == NULL || bits == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    et_epilogue end = et_epilogue_sums(g_scale, w_scale, dx_scale);
    return convolve(shape, 0, g, turn_bits(shape, bits, scratch), &end, 0, scratch, dx);
}
