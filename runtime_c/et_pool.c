#include "et_pool.h"

#include "et_block.h"
#include "et_pool_lanes.h"
#include "et_pool_positions.h"
#include "et_pool_quads.h"
#include "et_share.h"

/* Channels whose positions are packed at once: a multiple of four, and of BLOCK. */
#define PACKED_CHANNELS 64

/* Channels that are worked on at once, with what they need in registers. */
#if ET_SCALAR_CORE || !(defined(__clang__) || defined(__GNUC__))
#define HAS_LANES 0
#define BLOCK ET_BLOCK_OF(8, 16)
#elif defined(__AVX512F__)
#define HAS_LANES 1
#define BLOCK 16
#elif defined(__AVX2__)
#define HAS_LANES 1
#define BLOCK 8
#elif defined(__SSE2__) || defined(__ARM_NEON)
#define HAS_LANES 1
#define BLOCK 4
#else
#define HAS_LANES 0
#define BLOCK 16
#endif
#define PART 4 /* for what is left; at most BLOCK */
#define HALF (HAS_LANES && BLOCK == 16 ? 8 : BLOCK)

/* Calls WORK(first channel, how many) until all are done; the last parts may overlap, which does no harm here. */
#define EACH_BLOCK(channels, WORK)                                            \
    do {                                                                      \
        size_t c_ = 0;                                                        \
        for (; BLOCK > PART && c_ + BLOCK <= (channels); c_ += BLOCK)         \
            WORK(c_, BLOCK);                                                  \
        for (; BLOCK > HALF && c_ + HALF <= (channels); c_ += HALF)           \
            WORK(c_, HALF);                                                   \
        if ((channels) >= PART)                                               \
            for (; c_ < (channels); c_ += PART)                               \
                WORK((c_ + PART <= (channels) ? c_ : (channels) - PART), PART); \
        else                                                                  \
            for (; c_ < (channels); ++c_)                                     \
                WORK(c_, 1);                                                  \
    } while (0)

/* The taps of a window that lie inside the image, along one axis. */
typedef struct {
    int32_t tap;   /* the first of them */
    int32_t count; /* how many */
    int32_t start; /* where the first of them is */
} span;

static span clip(int32_t start, int32_t taps, int32_t dilation, int32_t size)
{
    span inside = {0, taps, start};
    int32_t last = start + (taps - 1) * dilation;
    while (inside.count > 0 && inside.start < 0) {
        inside.start += dilation;
        ++inside.tap;
        --inside.count;
    }
    while (inside.count > 0 && last >= size) {
        last -= dilation;
        --inside.count;
    }
    return inside;
}

static bool is_valid(const et_pool_shape *s)
{
    return s != NULL && s->batch >= 0 && s->height > 0 && s->width > 0 && s->channels > 0 && s->out_height > 0
        && s->out_width > 0 && s->kernel_height > 0 && s->kernel_width > 0 && s->stride_height > 0
        && s->stride_width > 0 && s->dilation_height > 0 && s->dilation_width > 0;
}

/* Elements of one image row, from one tap to the one below it, and to the one beside it. */
static size_t row_length(const et_pool_shape *s)
{
    return (size_t)s->width * (size_t)s->channels;
}

static size_t image_length(const et_pool_shape *s)
{
    return (size_t)s->height * row_length(s);
}

#if HAS_LANES
/* The same as max_of_window, as compilers do not find it themselves: best and position of LANES channels in vectors.
 * A comparison gives all ones or all zeros in each lane. Loads and stores need no alignment.
 */
#define MAX_OF_LANES(NAME, LANES)                                                                               \
    ET_INLINE void NAME(const et_pool_shape *s, span rows, span columns, const float *x, float *ET_RESTRICT y,  \
        uint8_t *ET_RESTRICT narrow, uint16_t *ET_RESTRICT wide)                                                \
    {                                                                                                           \
        typedef float floats __attribute__((vector_size(4 * (LANES))));                                         \
        typedef int32_t integers __attribute__((vector_size(4 * (LANES))));                                     \
        typedef uint8_t bytes __attribute__((vector_size(LANES)));                                              \
        typedef uint16_t shorts __attribute__((vector_size(2 * (LANES))));                                      \
        const size_t down = (size_t)s->dilation_height * row_length(s);                                         \
        const size_t right = (size_t)s->dilation_width * (size_t)s->channels;                                   \
        int32_t first_of_row = rows.tap * s->kernel_width + columns.tap;                                        \
        integers position = first_of_row - (integers){0};                                                       \
        floats best;                                                                                            \
        __builtin_memcpy(&best, x, sizeof best);                                                                \
        for (int32_t i = 0; i < rows.count; ++i, x += down, first_of_row += s->kernel_width) {                  \
            for (int32_t j = 0; j < columns.count; ++j) {                                                       \
                floats tap;                                                                                     \
                __builtin_memcpy(&tap, x + (size_t)j * right, sizeof tap);                                      \
                const integers better = tap > best;                                                             \
                best = (floats)(((integers)tap & better) | ((integers)best & ~better));                         \
                position = ((first_of_row + j) & better) | (position & ~better);                                \
            }                                                                                                   \
        }                                                                                                       \
        __builtin_memcpy(y, &best, sizeof best);                                                                \
        const bytes low = __builtin_convertvector(position, bytes);                                             \
        const shorts lower = __builtin_convertvector(position, shorts);                                         \
        if (narrow != NULL)                                                                                     \
            __builtin_memcpy(narrow, &low, sizeof low);                                                         \
        if (wide != NULL)                                                                                       \
            __builtin_memcpy(wide, &lower, sizeof lower);                                                       \
    }
MAX_OF_LANES(max_of_block, BLOCK)
#if BLOCK == 16
MAX_OF_LANES(max_of_half, 8)
#endif
MAX_OF_LANES(max_of_part, PART)
#undef MAX_OF_LANES
#endif

/* `width` channels of one window; `width` is a constant wherever this is inlined, and at most BLOCK.
 *   x  the first tap that lies inside
 */
ET_INLINE void max_of_window(const et_pool_shape *s, span rows, span columns, const float *x, float *ET_RESTRICT y,
    uint8_t *ET_RESTRICT narrow, uint16_t *ET_RESTRICT wide, size_t width)
{
    const size_t down = (size_t)s->dilation_height * row_length(s);
    const size_t right = (size_t)s->dilation_width * (size_t)s->channels;
#if HAS_LANES
    if (width == BLOCK) {
        max_of_block(s, rows, columns, x, y, narrow, wide);
        return;
    }
#if BLOCK == 16
    if (width == HALF) {
        max_of_half(s, rows, columns, x, y, narrow, wide);
        return;
    }
#endif
    if (width == PART) {
        max_of_part(s, rows, columns, x, y, narrow, wide);
        return;
    }
#endif
    float best[BLOCK];
    int32_t position[BLOCK];
    int32_t first_of_row = rows.tap * s->kernel_width + columns.tap;

    ET_UNROLL
    for (size_t c = 0; c < width; ++c) {
        best[c] = x[c];
        position[c] = first_of_row;
    }
    int32_t first = 1; /* the tap that the others are compared with */
    for (int32_t i = 0; i < rows.count; ++i) {
        const float *tap = x + (size_t)first * right;
        for (int32_t j = first; j < columns.count; ++j) {
            const int32_t here = first_of_row + j;
            ET_UNROLL
            for (size_t c = 0; c < width; ++c) {
                const bool better = tap[c] > best[c];
                best[c] = better ? tap[c] : best[c];
                position[c] = better ? here : position[c];
            }
            tap += right;
        }
        first = 0;
        x += down;
        first_of_row += s->kernel_width;
    }
    ET_UNROLL
    for (size_t c = 0; c < width; ++c) {
        y[c] = best[c];
        if (narrow != NULL)
            narrow[c] = (uint8_t)position[c];
        if (wide != NULL)
            wide[c] = (uint16_t)position[c];
    }
}

/* The forms of the forward pass: without positions (all NULL), narrow, wide or packed. */
ET_INLINE et_status max_pool(const et_pool_shape *shape, const float *x, float *y, uint8_t *narrow, uint16_t *wide,
    uint8_t *packed, uint32_t bits)
{
    if (!is_valid(shape) || x == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    const et_pool_shape s = *shape;
    const size_t channels = (size_t)s.channels;

#if ET_POOL_HAS_QUADS && !ET_THREADS
    const bool in_quads = packed == NULL ? narrow == NULL && wide == NULL : bits == 2u;
    if (in_quads && et_pool_is_of_quads(shape)) {
        et_max_of_quads(shape, x, y, packed);
        return ET_OK;
    }
#endif
#if ET_POOL_HAS_LANES
    const bool in_lanes = (packed == NULL ? narrow == NULL && wide == NULL : bits == 2u) && et_pool_is_of_lanes(shape);
#endif
    for (int32_t n = 0; n < s.batch; ++n, x += image_length(shape)) {
#if ET_THREADS
        if (!et_share_holds(n, s.batch)) { /* another thread's image */
            const size_t pixels = (size_t)s.out_height * (size_t)s.out_width;
            y += pixels * channels;
            if (packed != NULL)
                packed += pixels * et_positions_bytes(channels, bits);
            if (narrow != NULL)
                narrow += pixels * channels;
            if (wide != NULL)
                wide += pixels * channels;
            continue;
        }
#endif
#if ET_POOL_HAS_LANES
        if (in_lanes) {
            const size_t pixels = (size_t)s.out_height * (size_t)s.out_width;
            et_max_of_lanes(shape, x, y, packed);
            y += pixels * channels;
            if (packed != NULL)
                packed += pixels * et_positions_bytes(channels, bits);
            continue;
        }
#endif
        for (int32_t oh = 0; oh < s.out_height; ++oh) {
            const span rows = clip(oh * s.stride_height - s.pad_top, s.kernel_height, s.dilation_height, s.height);
            for (int32_t ow = 0; ow < s.out_width; ++ow) {
                const span columns = clip(ow * s.stride_width - s.pad_left, s.kernel_width, s.dilation_width, s.width);
                if (rows.count <= 0 || columns.count <= 0)
                    return ET_BAD_ARGUMENT;
                const float *corner = x + (size_t)rows.start * row_length(shape) + (size_t)columns.start * channels;
                if (packed != NULL) {
                    for (size_t from = 0; from < channels; from += PACKED_CHANNELS) {
                        const size_t some = channels - from < PACKED_CHANNELS ? channels - from : PACKED_CHANNELS;
                        uint8_t position[PACKED_CHANNELS];
#define WINDOW(c, width) \
    max_of_window(&s, rows, columns, corner + from + (c), y + from + (c), position + (c), NULL, width)
                        EACH_BLOCK(some, WINDOW);
#undef WINDOW
                        et_end_positions(some, position);
                        et_pack_positions(some, bits, position, packed);
                        packed += et_positions_bytes(some, bits);
                    }
                } else {
#define WINDOW(c, width)                                                                                 \
    max_of_window(&s, rows, columns, corner + (c), y + (c), narrow == NULL ? NULL : narrow + (c),         \
        wide == NULL ? NULL : wide + (c), width)
                    EACH_BLOCK(channels, WINDOW);
#undef WINDOW
                }
                y += channels;
                if (narrow != NULL)
                    narrow += channels;
                if (wide != NULL)
                    wide += channels;
            }
        }
    }
    return ET_OK;
}

et_status et_max_pool_f32(const et_pool_shape *shape, const float *x, float *y)
{
    return max_pool(shape, x, y, NULL, NULL, NULL, 0);
}

et_status et_max_pool_arg8_f32(const et_pool_shape *shape, const float *x, float *y, uint8_t *position)
{
    return position == NULL ? ET_BAD_ARGUMENT : max_pool(shape, x, y, position, NULL, NULL, 0);
}

et_status et_max_pool_arg16_f32(const et_pool_shape *shape, const float *x, float *y, uint16_t *position)
{
    return position == NULL ? ET_BAD_ARGUMENT : max_pool(shape, x, y, NULL, position, NULL, 0);
}

et_status et_max_pool_packed_f32(
    const et_pool_shape *shape, int32_t bits, const float *x, float *y, uint8_t *position)
{
    if ((bits != 2 && bits != 4) || position == NULL)
        return ET_BAD_ARGUMENT;
    return max_pool(shape, x, y, NULL, NULL, position, (uint32_t)bits);
}

static void clear(size_t count, float *x)
{
#define VALUE(i) 0.0f
    ET_EACH(count, x, VALUE);
#undef VALUE
}

/* One of narrow and wide is NULL. Narrow positions have `bits`, at most 8: a constant wherever this is inlined. */
ET_INLINE et_status max_pool_grad(const et_max_pool_grad_shape *shape, const float *dy, const uint8_t *narrow,
    const uint16_t *wide, uint32_t bits, float *dx)
{
    if (shape == NULL || shape->tap_offset == NULL || dy == NULL || dx == NULL || (narrow == NULL) == (wide == NULL))
        return ET_BAD_ARGUMENT;
    const et_max_pool_grad_shape s = *shape;
    const ptrdiff_t row = (ptrdiff_t)s.width * s.channels;
    const ptrdiff_t image = row * s.height;
    const ptrdiff_t step = (ptrdiff_t)s.stride_width * s.channels;

#if ET_POOL_HAS_QUADS && !ET_THREADS
    if (bits == 2 && et_pool_grad_is_of_quads(shape)) {
        et_max_pool_grad_of_quads(shape, dy, narrow, dx);
        return ET_OK;
    }
#endif
#if ET_POOL_HAS_LANES
    const bool in_lanes = bits == 2 && et_pool_grad_is_of_lanes(shape);
#endif
    for (int32_t n = 0; n < s.batch; ++n, dx += image) {
#if ET_THREADS
        if (!et_share_holds(n, s.batch)) {
            const size_t pixels = (size_t)s.out_height * (size_t)s.out_width;
            dy += pixels * (size_t)s.channels;
            if (wide == NULL)
                narrow += pixels * et_positions_bytes((size_t)s.channels, bits);
            else
                wide += pixels * (size_t)s.channels;
            continue;
        }
#endif
#if ET_POOL_HAS_LANES
        if (in_lanes) {
            const size_t pixels = (size_t)s.out_height * (size_t)s.out_width;
            et_max_pool_grad_of_lanes(shape, dy, narrow, dx);
            dy += pixels * (size_t)s.channels;
            narrow += pixels * et_positions_bytes((size_t)s.channels, bits);
            continue;
        }
#endif
        clear((size_t)image, dx);
        for (int32_t oh = 0; oh < s.out_height; ++oh) {
            /* Of the window's first tap, which may lie before the image; the winner does not. */
            ptrdiff_t corner = (ptrdiff_t)(oh * s.stride_height - s.pad_top) * row - (ptrdiff_t)s.pad_left * s.channels;
            for (int32_t ow = 0; ow < s.out_width; ++ow, corner += step) {
                int32_t c = 0;
#if !ET_SCALAR_CORE
                for (; wide == NULL && bits == 2 && c + 4 <= s.channels; c += 4) { /* a byte of positions */
                    const uint32_t four = narrow[c / 4];
                    float *const to = dx + corner + c;
                    const float *const from = dy + c;
                    to[s.tap_offset[four & 3u]] += from[0];
                    to[s.tap_offset[four >> 2 & 3u] + 1] += from[1];
                    to[s.tap_offset[four >> 4 & 3u] + 2] += from[2];
                    to[s.tap_offset[four >> 6] + 3] += from[3];
                }
#endif
                for (; c < s.channels; ++c) {
                    const uint32_t position = wide == NULL ? et_position(narrow, (size_t)c, bits) : wide[c];
                    dx[corner + c + s.tap_offset[position]] += dy[c];
                }
                dy += s.channels;
                if (wide == NULL)
                    narrow += et_positions_bytes((size_t)s.channels, bits);
                else
                    wide += s.channels;
            }
        }
    }
    return ET_OK;
}

et_status et_max_pool_grad_arg8_f32(
    const et_max_pool_grad_shape *shape, const float *dy, const uint8_t *position, float *dx)
{
    return max_pool_grad(shape, dy, position, NULL, 8, dx);
}

et_status et_max_pool_grad_arg16_f32(
    const et_max_pool_grad_shape *shape, const float *dy, const uint16_t *position, float *dx)
{
    return max_pool_grad(shape, dy, NULL, position, 16, dx);
}

et_status et_max_pool_grad_packed_f32(
    const et_max_pool_grad_shape *shape, int32_t bits, const float *dy, const uint8_t *position, float *dx)
{
    if (bits == 2)
        return max_pool_grad(shape, dy, position, NULL, 2, dx);
    return bits == 4 ? max_pool_grad(shape, dy, position, NULL, 4, dx) : ET_BAD_ARGUMENT;
}

#include "et_pool_average.inc"

et_status et_average_pool_f32(const et_pool_shape *shape, const float *x, float *y)
{
    if (!is_valid(shape) || x == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    return each_window(shape, x, y, visit_mean);
}

et_status et_average_pool_grad_f32(const et_pool_shape *shape, const float *dy, float *dx)
{
    if (!is_valid(shape) || dy == NULL || dx == NULL)
        return ET_BAD_ARGUMENT;
    const size_t count = (size_t)shape->batch * image_length(shape);
    clear(count, dx);
    return each_window(shape, dy, dx, visit_spread);
}
