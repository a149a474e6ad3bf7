/* See et_conv_planes_i8.h. */
#include "et_conv_planes_i8.h"

#include "et_count_planes.h"
#include "et_epilogue.h"

/* What one call works on. */
typedef struct {
    const et_planes_shape *shape;
    const uint8_t *bits;
    const et_epilogue *end;
    int32_t *sums;       /* [block][out_channels] */
    uint32_t *gathered;  /* [planes][words], from the first bit of a filter on */
    uint32_t *moved;     /* the same, from a later byte of the first word on */
    uint32_t *first;     /* filters whose words would reach out of bits, else not used */
    uint32_t *last;
    uint8_t *planes;     /* of an image, [planes][padded image] */
    bool copies_first;
    bool copies_last;
} work;

/* How many words of one or two planes are held while the filters pass by; the most first. */
typedef struct {
    int32_t words;
    bool any_more; /* or a multiple of so many */
    void (*one)(const et_plane_pass *, int32_t);
    void (*two)(const et_plane_pass *, int32_t);
} pass_size;

#define DEFINE_PASS(size)                                                          \
    static ET_NOINLINE void pass_one_##size(const et_plane_pass *pass, int32_t words) \
    {                                                                              \
        (void)words;                                                               \
        et_pass_filters(false, size, pass);                                        \
    }                                                                              \
    static ET_NOINLINE void pass_two_##size(const et_plane_pass *pass, int32_t words) \
    {                                                                              \
        (void)words;                                                               \
        et_pass_filters(true, size, pass);                                         \
    }

#if ET_HAS_COUNT
DEFINE_PASS(8)
DEFINE_PASS(5)
DEFINE_PASS(4)
DEFINE_PASS(2)
DEFINE_PASS(1)
static const pass_size sizes[] = {
    {8, false, pass_one_8, pass_two_8}, {5, false, pass_one_5, pass_two_5}, {4, false, pass_one_4, pass_two_4},
    {2, false, pass_one_2, pass_two_2}, {1, false, pass_one_1, pass_two_1},
};
#else
#define LONG_PASS {8, true, pass_one_long, pass_two_long}
static ET_NOINLINE void pass_one_long(const et_plane_pass *pass, int32_t words)
{
    et_pass_long_filters(false, words, pass);
}
static ET_NOINLINE void pass_two_long(const et_plane_pass *pass, int32_t words)
{
    et_pass_long_filters(true, words, pass);
}
DEFINE_PASS(1)
#if ET_SMALL_CODE
static const pass_size sizes[] = {LONG_PASS, {1, false, pass_one_1, pass_two_1}};
#else
DEFINE_PASS(5)
DEFINE_PASS(3)
static const pass_size sizes[] = {
    LONG_PASS, {5, false, pass_one_5, pass_two_5}, {3, false, pass_one_3, pass_two_3}, {1, false, pass_one_1, pass_two_1},
};
#endif
#endif

/* Adds what one or two planes give to sums. */
static void count_some(bool two, int32_t words, et_plane_pass pass)
{
    for (const pass_size *size = sizes; words > 0;) {
        if (size->words > words) {
            size++;
            continue;
        }
        const int32_t now = size->any_more ? words & -size->words : size->words;
        (two ? size->two : size->one)(&pass, now);
        words -= now;
        pass.low += now;
        pass.high += now;
        pass.filter += now;
    }
}

/* Adds what all planes give to sums. */
static void count_planes(const et_planes_shape *shape, const uint32_t *planes, int32_t words, int32_t count,
                         const void *filter, int32_t step, int32_t *sums, int32_t sums_step)
{
    et_plane_pass pass = {planes, planes + shape->words, filter, step, count, 0, sums, sums_step};
    for (; pass.power + 1 < shape->planes; pass.power += 2) {
        count_some(true, words, pass);
        pass.low += shape->words << 1;
        pass.high += shape->words << 1;
    }
    if (pass.power < shape->planes)
        count_some(false, words, pass);
}

/* Gathered planes, `bytes` later. */
static void move_planes(const work *job, int32_t bytes)
{
    const et_planes_shape *shape = job->shape;
    const uint32_t *from = job->gathered;
    uint32_t *to = job->moved;
    const int32_t up = bytes << 3, down = 32 - up;
    for (int32_t plane = shape->planes; plane > 0; plane--) {
        uint32_t before = 0;
        for (int32_t word = shape->words; word > 0; word--) {
            const uint32_t now = *from++;
            *to++ = now << up | before >> down;
            before = now;
        }
    }
}

/* Sums of all filters for the output whose planes are gathered. Filters that begin in the same byte of a word come one
 * after the other. */
static void count_output(const work *job, int32_t *sums)
{
    const et_planes_shape *shape = job->shape;
    const int32_t bytes = shape->filter_bytes, outputs = shape->out_channels;
    const int32_t power = (bytes & 3) == 0 ? 0 : (bytes & 1) == 0 ? 1 : 2, classes = 1 << power;
    const int32_t own_words = (bytes + 3) >> 2;
    for (int32_t c = 0; c < outputs; c++)
        sums[c] = 0;
    if (job->copies_first)
        count_planes(shape, job->gathered, own_words, 1, job->first, 0, sums, 1);
    if (job->copies_last)
        count_planes(shape, job->gathered, own_words, 1, job->last, 0, sums + outputs - 1, 1);
    const int32_t end = outputs - job->copies_last;
    const uint8_t *filter = job->bits;
    for (int32_t c = 0; c < classes && c < end; c++, filter += bytes) {
        const bool skips = c == 0 && job->copies_first;
        const uint8_t *const from = skips ? filter + (bytes << power) : filter;
        const int32_t channel = skips ? classes : c, count = (end - channel + classes - 1) >> power;
        const int32_t before = (int32_t)((uintptr_t)from & 3u);
        if (before != 0)
            move_planes(job, before);
        if (count > 0)
            count_planes(shape, before != 0 ? job->moved : job->gathered, (before + bytes + 3) >> 2, count,
                         from - before, (bytes << power) >> 2, sums + channel, classes);
        ET_OPAQUE(filter);
    }
}

ET_INLINE void copy_units(int32_t unit, const uint8_t *from, uint8_t *to, int32_t bytes)
{
    for (; bytes > 0; bytes -= unit, from += unit, to += unit) {
        if (unit == 4)
            *(et_plane_word *)(void *)to = *(const et_plane_word *)(const void *)from;
        else if (unit == 2)
            *(et_plane_half *)(void *)to = *(const et_plane_half *)(const void *)from;
        else
            *to = *from;
    }
}

/* The planes that an output reads; `unit` is known when compiling. */
ET_INLINE void gather_units(int32_t unit, const work *job, const uint8_t *from)
{
    const et_planes_shape *shape = job->shape;
    uint32_t *plane = job->gathered;
    for (int32_t left = shape->planes; left > 0; left--, from += shape->plane, plane += shape->words) {
        uint8_t *to = (uint8_t *)plane;
        const uint8_t *row = from;
        for (int32_t h = shape->taps_h; h > 0; h--) {
            const uint8_t *tap = row;
            for (int32_t w = shape->taps_w; w > 0; w--) {
                copy_units(unit, tap, to, shape->tap_bytes);
                to += shape->tap_bytes;
                tap += shape->tap_step;
                ET_OPAQUE(to);
                ET_OPAQUE(tap);
            }
            row += shape->tap_row;
            ET_OPAQUE(row);
        }
        ET_OPAQUE(from);
        ET_OPAQUE(plane);
    }
}

static void gather(const work *job, const uint8_t *from)
{
    if (job->shape->unit == 4)
        gather_units(4, job, from);
    else if (job->shape->unit == 2)
        gather_units(2, job, from);
    else
        gather_units(1, job, from);
}

/* Writes the lowest bytes of a word. */
static void store_bits(uint32_t word, int32_t bytes, uint8_t *to)
{
    for (; bytes > 0; bytes--, word >>= 8)
        *to++ = (uint8_t)(word & 0xffu);
}

ET_INLINE void store_word(uint32_t word, uint8_t *to)
{
    if (((uintptr_t)to & 3u) == 0) {
        *(et_plane_word *)(void *)to = word;
        return;
    }
    to[0] = (uint8_t)(word & 0xffu);
    to[1] = (uint8_t)((word >> 8) & 0xffu);
    to[2] = (uint8_t)((word >> 16) & 0xffu);
    to[3] = (uint8_t)(word >> 24);
}

/* The planes of up to 32 codes. */
static void pack_some(const et_planes_shape *shape, const int8_t *codes, int32_t count, uint8_t *to)
{
    uint32_t copied[ET_PLANE_CODES / 4] = {0}, planes[2];
    uint8_t *const copy = (uint8_t *)copied;
    for (int32_t i = 0; i < count; i++)
        copy[i] = (uint8_t)codes[i];
    for (int32_t shift = 0; shift < shape->planes; shift += 2) {
        et_planes_of_codes(copied, shift, planes);
        store_bits(planes[0], (count + 7) >> 3, to);
        to += shape->plane;
        if (shift + 1 < shape->planes)
            store_bits(planes[1], (count + 7) >> 3, to);
        to += shape->plane;
        ET_OPAQUE(to);
    }
}

/* The planes of some codes. */
static void pack_run(const et_planes_shape *shape, const int8_t *codes, int32_t count, uint8_t *to)
{
    const bool aligned = ((uintptr_t)codes & 3u) == 0 && shape->planes <= 2;
    const int32_t second = shape->planes == 2 ? shape->plane : 0; /* the first plane comes last */
    for (; aligned && count >= ET_PLANE_CODES; count -= ET_PLANE_CODES, codes += ET_PLANE_CODES, to += 4) {
        uint32_t planes[2];
        et_planes_of_codes((const et_plane_word *)(const void *)codes, -1, planes);
        store_word(planes[1], to + second);
        store_word(planes[0], to);
    }
    for (; count > 0; count -= ET_PLANE_CODES, codes += ET_PLANE_CODES, to += 4)
        pack_some(shape, codes, count < ET_PLANE_CODES ? count : ET_PLANE_CODES, to);
}

static void pack_image(const work *job, const int8_t *x)
{
    const et_planes_shape *shape = job->shape;
    uint8_t *line = job->planes + shape->first;
    for (int32_t row = shape->rows; row > 0; row--, line += shape->line) {
        uint8_t *to = line;
        for (int32_t run = shape->runs; run > 0; run--) {
            pack_run(shape, x, shape->run_codes, to);
            x += shape->run_codes;
            to += shape->run_bytes;
            ET_OPAQUE(x);
            ET_OPAQUE(to);
        }
        ET_OPAQUE(line);
    }
}

/* Outputs of an image; gives what follows them. */
static char *convolve_image(const work *job, const int8_t *x, char *y)
{
    const et_planes_shape *shape = job->shape;
    const et_epilogue *end = job->end;
    const size_t outputs = (size_t)shape->out_channels;
    const uint8_t *row = job->planes;
    int32_t *sums = job->sums;
    int32_t waiting = 0;
    pack_image(job, x);
    for (int32_t h = shape->out_height; h > 0; h--) {
        const uint8_t *from = row;
        for (int32_t w = shape->out_width; w > 0; w--) {
            gather(job, from);
            count_output(job, sums);
            sums += outputs;
            waiting++;
            if (waiting == shape->block) {
                et_epilogue_pixels(end, 0, shape->out_channels, waiting, job->sums, outputs, y, outputs);
                y += shape->block_sums << end->power;
                sums = job->sums;
                waiting = 0;
            }
            from += shape->step_w;
            ET_OPAQUE(from);
            ET_OPAQUE(sums);
        }
        row += shape->step_h;
        ET_OPAQUE(row);
    }
    if (waiting > 0)
        et_epilogue_pixels(end, 0, shape->out_channels, waiting, job->sums, outputs, y, outputs);
    for (; waiting > 0; waiting--) {
        y += outputs << end->power;
        ET_OPAQUE(y);
    }
    return y;
}

static void clear(uint32_t *words, const uint32_t *end)
{
    while (words != end)
        *words++ = 0;
}

/* What is beyond the last byte, the gathered planes have as zeros. */
static void copy_filter(const uint8_t *from, int32_t bytes, uint32_t *to)
{
    uint8_t *byte = (uint8_t *)to;
    for (; bytes > 0; bytes--)
        *byte++ = *from++;
}

static et_status convolve(const et_planes_shape *shape, const int8_t *x, const uint8_t *bits, const et_epilogue *end,
                          void *scratch, void *y)
{
    if (x == NULL || bits == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    work job;
    job.shape = shape;
    job.bits = bits;
    job.end = end;
    job.sums = scratch;
    job.gathered = (uint32_t *)(job.sums + shape->block_sums);
    job.moved = job.gathered + shape->all_words;
    job.first = job.moved + shape->all_words;
    job.last = job.first + shape->words;
    job.planes = (uint8_t *)(job.last + shape->words);
    clear(job.gathered, job.moved); /* what is beyond the last byte */
    if (shape->padded != 0)
        clear((uint32_t *)(void *)job.planes, (uint32_t *)(void *)(job.planes + shape->all_planes));
    const uint8_t *last = bits, *stop = bits + shape->filter_bytes;
    for (int32_t c = shape->out_channels; c > 1; c--) {
        last = stop;
        stop += shape->filter_bytes;
        ET_OPAQUE(stop);
    }
    job.copies_first = ((uintptr_t)bits & 3u) != 0;
    job.copies_last = ((uintptr_t)stop & 3u) != 0 && (last != bits || !job.copies_first);
    if (job.copies_first)
        copy_filter(bits, shape->filter_bytes, job.first);
    if (job.copies_last)
        copy_filter(last, shape->filter_bytes, job.last);
    char *to = y;
    for (int32_t n = shape->batch; n > 0; n--) {
        to = convolve_image(&job, x, to);
        x += shape->image;
        ET_OPAQUE(x);
    }
    return ET_OK;
}

et_status et_conv_planes_i8(const et_planes_shape *shape, const int8_t *x, const uint8_t *bits, const float *x_scale,
                            const float *w_scale, int32_t w_scale_step, const float *bias, const int32_t *start,
                            void *scratch, float *y)
{
    if (shape == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    const et_epilogue end = et_epilogue_real(x_scale, w_scale, w_scale_step, bias, start);
    return convolve(shape, x, bits, &end, scratch, y);
}

et_status et_conv_planes_codes_i8(const et_planes_shape *shape, int32_t levels, const int8_t *x, const uint8_t *bits,
                                  const int32_t *thresholds, const int8_t *direction, void *scratch, int8_t *y)
{
    if (shape == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    const et_epilogue end = et_epilogue_codes(thresholds, levels, direction);
    return convolve(shape, x, bits, &end, scratch, y);
}

et_status et_conv_planes_sums_i8(const et_planes_shape *shape, const int8_t *x, const uint8_t *bits,
                                 const float *x_scale, const float *w_scale, void *scratch, int32_t *y, float *y_scale)
{
    if (shape == NULL || scratch == NULL)
        return ET_BAD_ARGUMENT;
    const et_epilogue end = et_epilogue_sums(x_scale, w_scale, y_scale);
    return convolve(shape, x, bits, &end, scratch, y);
}
