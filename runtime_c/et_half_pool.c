/* See et_half_pool.h. */
#include "et_half_pool.h"

#include "et_block.h"
#include "et_half_number.h"
#include "et_pool_positions.h"
#include "et_repeat.h"

/* Windows of 2x2 and channels by fours, on a core that computes one number at a time: positions are whole bytes. */
static bool is_of_quads(const et_pool_shape *s)
{
    return ET_SCALAR_CORE && s->kernel_height == 2 && s->kernel_width == 2 && s->channels % 4 == 0;
}

/* In one branch, where clang would take one for the value and one for the position. */
#define TAKE(taps, tap)                                     \
    {                                                       \
        const et_number value = ET_ELEMENT_VALUE(taps[i]);  \
        if (value > best) {                                 \
            best = value;                                   \
            byte = before + (tap << 2 * i);                 \
            ET_OPAQUE(byte);                                \
        }                                                   \
    }

/* Written out: compilers leave a loop around an instruction of its own as it is. */
#define MOST(m, K)                                                \
    {                                                             \
        enum { i = K };                                           \
        const uint32_t before = byte;                             \
        et_number best = ET_ELEMENT_VALUE(top[i]);                \
        TAKE(right, 1u)                                           \
        TAKE(bottom, 2u)                                          \
        TAKE(last, 3u)                                            \
        y[i] = et_element_of(et_number_at_least(best, least));    \
    }

ET_INLINE void max_of_quads(const et_pool_shape *s, et_number least, const et_element *x, et_element *y,
                            uint8_t *packed)
{
    const size_t channels = (size_t)s->channels, row = (size_t)s->width * channels;
    for (int32_t n = s->batch; n > 0; --n, x += (size_t)s->height * row) {
        const et_element *line = x;
        for (int32_t oh = s->out_height; oh > 0; --oh, line += 2 * row) {
            const et_element *top = line, *bottom = line + row;
            for (int32_t ow = s->out_width; ow > 0; --ow, top += channels, bottom += channels) {
                const et_element *right = top + channels, *last = bottom + channels;
                for (const et_element *end = right; top != end; top += 4, right += 4, bottom += 4, last += 4, y += 4) {
                    uint32_t byte = 0;
                    ET_COLUMNS_4(MOST, 0)
                    if (packed != NULL)
                        *packed++ = (uint8_t)byte;
                }
            }
        }
    }
}

/* One channel of one window, and which tap won. */
static inline uint32_t best_of(const et_pool_shape *s, et_number least, size_t row, const et_element *x, et_element *y)
{
    et_number best = ET_ELEMENT_VALUE(*x);
    uint32_t position = 0, tap = 0;
    for (int32_t kh = s->kernel_height; kh > 0; --kh, x += row)
        for (int32_t kw = 0; kw < s->kernel_width; ++kw, ++tap) {
            const et_number value = ET_ELEMENT_VALUE(x[(size_t)kw * (size_t)s->channels]);
            if (value > best) {
                best = value;
                position = tap;
            }
        }
    *y = et_element_of(et_number_at_least(best, least));
    return position;
}

/* Results below `least`, 0 or NaN, are as much. */
ET_INLINE et_status max_pool(const et_pool_shape *s, uint32_t bits, et_number least, const et_element *x, et_element *y,
                             uint8_t *packed)
{
    if (is_of_quads(s) && (packed == NULL || bits == 2)) {
        max_of_quads(s, least, x, y, packed);
        return ET_OK;
    }
    const size_t channels = (size_t)s->channels, row = (size_t)s->width * channels;
    const uint32_t together = packed != NULL ? 8u / bits : 1u;
    for (int32_t n = 0; n < s->batch; ++n, x += (size_t)s->height * row)
        for (int32_t oh = 0; oh < s->out_height; ++oh)
            for (int32_t ow = 0; ow < s->out_width; ++ow) {
                const et_element *corner =
                    x + (size_t)(oh * s->kernel_height) * row + (size_t)(ow * s->kernel_width) * channels;
                uint32_t byte = 0, filled = 0;
                for (size_t c = 0; c < channels; ++c, ++y) {
                    const uint32_t position = best_of(s, least, row, corner + c, y);
                    if (packed == NULL)
                        continue;
                    byte |= position << filled * bits;
                    if (++filled == together || c + 1 == channels) {
                        *packed++ = (uint8_t)byte;
                        byte = filled = 0;
                    }
                }
            }
    return ET_OK;
}

static ET_NOINLINE et_status positions(const et_pool_shape *shape, int32_t bits, et_number least, const uint16_t *x,
                                       uint16_t *y, uint8_t *position)
{
    if ((bits != 2 && bits != 4) || position == NULL)
        return ET_BAD_ARGUMENT;
    return max_pool(shape, (uint32_t)bits, least, (const et_element *)x, (et_element *)y, position);
}

static ET_NOINLINE et_status results(const et_pool_shape *shape, et_number least, const uint16_t *x, uint16_t *y)
{
    return max_pool(shape, 0, least, (const et_element *)x, (et_element *)y, NULL);
}

et_status et_max_pool_fp16(const et_pool_shape *shape, const uint16_t *x, uint16_t *y)
{
    return results(shape, (et_number)ET_NAN, x, y);
}

et_status et_max_pool_packed_fp16(const et_pool_shape *shape, int32_t bits, const uint16_t *x, uint16_t *y,
                                  uint8_t *position)
{
    return positions(shape, bits, (et_number)ET_NAN, x, y, position);
}

#if ET_FORM_RECTIFY
et_status et_max_pool_relu_fp16(const et_pool_shape *shape, const uint16_t *x, uint16_t *y)
{
    return results(shape, 0, x, y);
}

et_status et_max_pool_relu_packed_fp16(const et_pool_shape *shape, int32_t bits, const uint16_t *x, uint16_t *y,
                                       uint8_t *position)
{
    return positions(shape, bits, 0, x, y, position);
}
#endif

/* Windows that cover the image. */
static void grad_of_quads(const et_pool_shape *s, const uint16_t *dy, const uint8_t *packed, uint16_t *ET_RESTRICT dx)
{
    const size_t channels = (size_t)s->channels, row = (size_t)s->width * channels;
    const size_t offset[4] = {0, channels, row, row + channels};
    for (int32_t lines = s->batch * s->out_height; lines > 0; --lines, dx += row)
        for (int32_t ow = s->out_width; ow > 0; --ow, dx += channels) {
            uint16_t *right = dx + channels, *bottom = dx + row, *last = bottom + channels;
            for (const uint16_t *end = right; dx != end; dx += 4, right += 4, bottom += 4, last += 4, dy += 4) {
                const uint32_t byte = *packed++;
                ET_UNROLL for (uint32_t i = 0; i < 4; ++i) {
                    const uint16_t gradient = dy[i];
                    dx[i] = 0;
                    right[i] = 0;
                    bottom[i] = 0;
                    last[i] = 0;
                    dx[offset[byte >> 2 * i & 3u] + i] = gradient;
                }
            }
        }
}

et_status et_max_pool_grad_packed_fp16(const et_pool_shape *shape, int32_t bits, const uint16_t *dy,
                                       const uint8_t *position, uint16_t *dx)
{
    if ((bits != 2 && bits != 4) || position == NULL)
        return ET_BAD_ARGUMENT;
    const et_pool_shape *s = shape;
    if (is_of_quads(s) && bits == 2 && s->height == 2 * s->out_height && s->width == 2 * s->out_width) {
        grad_of_quads(s, dy, position, dx);
        return ET_OK;
    }
    const size_t channels = (size_t)s->channels, row = (size_t)s->width * channels, image = (size_t)s->height * row;
    for (int32_t n = 0; n < s->batch; ++n, dx += image) {
        for (size_t i = 0; i < image; ++i)
            dx[i] = 0;
        for (int32_t oh = 0; oh < s->out_height; ++oh)
            for (int32_t ow = 0; ow < s->out_width; ++ow, dy += channels) {
                uint16_t *corner =
                    dx + (size_t)(oh * s->kernel_height) * row + (size_t)(ow * s->kernel_width) * channels;
                for (size_t c = 0; c < channels; ++c) {
                    const uint32_t tap = et_position(position, c, (uint32_t)bits), across = (uint32_t)s->kernel_width;
                    corner[tap / across * row + tap % across * channels + c] = dy[c];
                }
                position += et_positions_bytes(channels, (uint32_t)bits);
            }
    }
    return ET_OK;
}
