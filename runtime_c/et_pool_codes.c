/* See et_pool_codes.h. */
#include "et_pool_codes.h"

#include "et_block.h"
#include "et_pool_positions.h"

static bool is_valid(const et_pool_shape *s)
{
    return s != NULL && s->batch >= 0 && s->height > 0 && s->width > 0 && s->channels > 0 && s->out_height > 0
        && s->out_width > 0 && s->kernel_height > 0 && s->kernel_width > 0 && s->stride_height > 0
        && s->stride_width > 0 && s->dilation_height > 0 && s->dilation_width > 0;
}

/* The taps along one axis that lie inside: [first, end). */
typedef struct {
    int32_t first;
    int32_t end;
} span;

static span clip(int32_t start, int32_t taps, int32_t dilation, int32_t size)
{
    span inside = {0, taps};
    while (inside.first < taps && start + inside.first * dilation < 0)
        ++inside.first;
    while (inside.end > inside.first && start + (inside.end - 1) * dilation >= size)
        --inside.end;
    return inside;
}

/* One type of codes. `corner` is the element of the window's first tap, which may lie before the image. */
#define MAX_POOL(NAME, TYPE)                                                                                       \
    ET_INLINE void NAME##_window(const et_pool_shape *s, span rows, span columns, ptrdiff_t corner, const TYPE *x, \
        TYPE *ET_RESTRICT y, uint8_t *ET_RESTRICT narrow, uint16_t *ET_RESTRICT wide,                              \
        uint8_t *ET_RESTRICT packed, uint32_t bits)                                                                \
    {                                                                                                              \
        const ptrdiff_t right = (ptrdiff_t)s->dilation_width * s->channels;                                        \
        const ptrdiff_t down = (ptrdiff_t)s->dilation_height * s->width * s->channels;                             \
        uint32_t byte = 0, filled = 0;                                                                             \
        for (int32_t c = 0; c < s->channels; ++c) {                                                                \
            const TYPE *row = x + (corner + rows.first * down + columns.first * right + c);                        \
            int32_t best = *row, position = rows.first * s->kernel_width + columns.first;                          \
            for (int32_t i = rows.first; i < rows.end; ++i, row += down) {                                         \
                const TYPE *tap = row;                                                                             \
                for (int32_t j = columns.first; j < columns.end; ++j, tap += right)                                \
                    if (*tap > best) {                                                                             \
                        best = *tap;                                                                               \
                        position = i * s->kernel_width + j;                                                        \
                    }                                                                                              \
            }                                                                                                      \
            y[c] = (TYPE)best;                                                                                     \
            if (narrow != NULL)                                                                                    \
                narrow[c] = (uint8_t)position;                                                                     \
            if (wide != NULL)                                                                                      \
                wide[c] = (uint16_t)position;                                                                      \
            if (packed != NULL) {                                                                                  \
                byte |= (uint32_t)position << filled;                                                              \
                filled += bits;                                                                                    \
                if (filled == 8u || c + 1 == s->channels) {                                                        \
                    *packed++ = (uint8_t)byte;                                                                     \
                    byte = filled = 0;                                                                             \
                }                                                                                                  \
            }                                                                                                      \
        }                                                                                                          \
    }                                                                                                              \
                                                                                                                   \
    ET_INLINE et_status NAME(const et_pool_shape *shape, const TYPE *x, TYPE *y, uint8_t *narrow, uint16_t *wide,  \
        uint8_t *packed, uint32_t bits)                                                                            \
    {                                                                                                              \
        if (!is_valid(shape) || x == NULL || y == NULL)                                                            \
            return ET_BAD_ARGUMENT;                                                                                \
        const et_pool_shape s = *shape;                                                                            \
        const ptrdiff_t line = (ptrdiff_t)s.width * s.channels;                                                    \
        for (int32_t n = 0; n < s.batch; ++n, x += line * s.height) {                                              \
            for (int32_t oh = 0; oh < s.out_height; ++oh) {                                                        \
                const int32_t top = oh * s.stride_height - s.pad_top;                                              \
                const span rows = clip(top, s.kernel_height, s.dilation_height, s.height);                         \
                for (int32_t ow = 0; ow < s.out_width; ++ow) {                                                     \
                    const int32_t left = ow * s.stride_width - s.pad_left;                                         \
                    const span columns = clip(left, s.kernel_width, s.dilation_width, s.width);                    \
                    if (rows.first >= rows.end || columns.first >= columns.end)                                    \
                        return ET_BAD_ARGUMENT;                                                                    \
                    const ptrdiff_t corner = top * line + (ptrdiff_t)left * s.channels;                            \
                    NAME##_window(&s, rows, columns, corner, x, y, narrow, wide, packed, bits);                    \
                    y += s.channels;                                                                               \
                    if (packed != NULL)                                                                            \
                        packed += et_positions_bytes((size_t)s.channels, bits);                                    \
                    if (narrow != NULL)                                                                            \
                        narrow += s.channels;                                                                      \
                    if (wide != NULL)                                                                              \
                        wide += s.channels;                                                                        \
                }                                                                                                  \
            }                                                                                                      \
        }                                                                                                          \
        return ET_OK;                                                                                              \
    }

MAX_POOL(max_pool_i8, int8_t)
MAX_POOL(max_pool_i16, int16_t)

et_status et_max_pool_i8(const et_pool_shape *shape, const int8_t *x, int8_t *y)
{
    return max_pool_i8(shape, x, y, NULL, NULL, NULL, 0);
}

et_status et_max_pool_i16(const et_pool_shape *shape, const int16_t *x, int16_t *y)
{
    return max_pool_i16(shape, x, y, NULL, NULL, NULL, 0);
}

et_status et_max_pool_arg8_i8(const et_pool_shape *shape, const int8_t *x, int8_t *y, uint8_t *position)
{
    return position == NULL ? ET_BAD_ARGUMENT : max_pool_i8(shape, x, y, position, NULL, NULL, 0);
}

et_status et_max_pool_arg16_i8(const et_pool_shape *shape, const int8_t *x, int8_t *y, uint16_t *position)
{
    return position == NULL ? ET_BAD_ARGUMENT : max_pool_i8(shape, x, y, NULL, position, NULL, 0);
}

et_status et_max_pool_arg8_i16(const et_pool_shape *shape, const int16_t *x, int16_t *y, uint8_t *position)
{
    return position == NULL ? ET_BAD_ARGUMENT : max_pool_i16(shape, x, y, position, NULL, NULL, 0);
}

et_status et_max_pool_arg16_i16(
    const et_pool_shape *shape, const int16_t *x, int16_t *y, uint16_t *position)
{
    return position == NULL ? ET_BAD_ARGUMENT : max_pool_i16(shape, x, y, NULL, position, NULL, 0);
}

et_status et_max_pool_packed_i8(
    const et_pool_shape *shape, int32_t bits, const int8_t *x, int8_t *y, uint8_t *position)
{
    if ((bits != 2 && bits != 4) || position == NULL)
        return ET_BAD_ARGUMENT;
    return max_pool_i8(shape, x, y, NULL, NULL, position, (uint32_t)bits);
}

et_status et_max_pool_packed_i16(
    const et_pool_shape *shape, int32_t bits, const int16_t *x, int16_t *y, uint8_t *position)
{
    if ((bits != 2 && bits != 4) || position == NULL)
        return ET_BAD_ARGUMENT;
    return max_pool_i16(shape, x, y, NULL, NULL, position, (uint32_t)bits);
}
