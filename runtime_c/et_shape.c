#include "et_shape.h"

#include "et_block.h"

/* Rows and columns of the tiles in which a plane is transposed: what they touch stays in the first-level cache. */
#define TILE 8

static void copy(size_t count, const float *ET_RESTRICT x, float *ET_RESTRICT y)
{
    for (size_t i = 0; i < count; ++i)
        y[i] = x[i];
}

static bool is_valid(const et_walk *w)
{
    return w != NULL && w->size0 > 0 && w->size1 > 0 && w->size2 > 0 && w->size3 > 0 && w->size4 > 0 && w->size5 > 0;
}

/* dense[i][j] = strided[i * down + j * right]. */
static void gather_plane(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t down, ptrdiff_t right,
    const float *ET_RESTRICT strided, float *ET_RESTRICT dense)
{
    if (right == 1) {
        for (ptrdiff_t i = 0; i < rows; ++i)
            copy((size_t)columns, strided + i * down, dense + i * columns);
        return;
    }
    for (ptrdiff_t top = 0; top < rows; top += TILE) {
        const ptrdiff_t bottom = top + TILE < rows ? top + TILE : rows;
        for (ptrdiff_t left = 0; left < columns; left += TILE) {
            const ptrdiff_t end = left + TILE < columns ? left + TILE : columns;
            for (ptrdiff_t i = top; i < bottom; ++i) {
                const float *from = strided + i * down;
                float *to = dense + i * columns;
                for (ptrdiff_t j = left; j < end; ++j)
                    to[j] = from[j * right];
            }
        }
    }
}

/* strided[i * down + j * right] = dense[i][j]. */
static void scatter_plane(ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t down, ptrdiff_t right,
    const float *ET_RESTRICT dense, float *ET_RESTRICT strided)
{
    for (ptrdiff_t i = 0; i < rows; ++i) {
        const float *from = dense + i * columns;
        float *to = strided + i * down;
        if (right == 1)
            copy((size_t)columns, from, to);
        else
            for (ptrdiff_t j = 0; j < columns; ++j)
                to[j * right] = from[j];
    }
}

/* Hands each plane of the last two axes to gather_plane (from the strided side) or scatter_plane (to it). */
ET_INLINE void each_plane(const et_walk *w, const float *from, float *to, bool gather)
{
    const ptrdiff_t plane = (ptrdiff_t)w->size4 * w->size5;
    ptrdiff_t dense = 0;
    for (ptrdiff_t a = 0; a < w->size0; ++a) {
        for (ptrdiff_t b = 0; b < w->size1; ++b) {
            for (ptrdiff_t c = 0; c < w->size2; ++c) {
                for (ptrdiff_t d = 0; d < w->size3; ++d, dense += plane) {
                    const ptrdiff_t strided =
                        w->offset + a * w->stride0 + b * w->stride1 + c * w->stride2 + d * w->stride3;
                    if (gather)
                        gather_plane(w->size4, w->size5, w->stride4, w->stride5, from + strided, to + dense);
                    else
                        scatter_plane(w->size4, w->size5, w->stride4, w->stride5, from + dense, to + strided);
                }
            }
        }
    }
}

et_status et_transpose_f32(const et_walk *walk, const float *x, float *y)
{
    return et_slice_f32(walk, x, y);
}

et_status et_slice_f32(const et_walk *walk, const float *x, float *y)
{
    if (!is_valid(walk) || x == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    each_plane(walk, x, y, true);
    return ET_OK;
}

et_status et_pad_f32(const et_walk *walk, int32_t count, float value, const float *x, float *y)
{
    if (!is_valid(walk) || count < 0 || x == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t i = 0; i < (size_t)count; ++i)
        y[i] = value;
    each_plane(walk, x, y, false);
    return ET_OK;
}

/* Hands each block of the padded side to copy (padding) or adds it to where it came from (its gradient). */
ET_INLINE et_status each_border(const et_border_shape *s, const float *from, float *to, bool gather)
{
    if (s == NULL || s->source0 == NULL || s->source1 == NULL || s->source2 == NULL || s->source3 == NULL
        || s->inner <= 0 || from == NULL || to == NULL)
        return ET_BAD_ARGUMENT;
    const size_t inner = (size_t)s->inner;
    size_t padded = 0;
    for (int32_t a = 0; a < s->size0; ++a) {
        for (int32_t b = 0; b < s->size1; ++b) {
            for (int32_t c = 0; c < s->size2; ++c) {
                const int32_t row = s->source0[a] + s->source1[b] + s->source2[c];
                for (int32_t d = 0; d < s->size3; ++d, padded += inner) {
                    const size_t inside = (size_t)(row + s->source3[d]);
                    if (gather)
                        copy(inner, from + inside, to + padded);
                    else
                        for (size_t i = 0; i < inner; ++i)
                            to[inside + i] += from[padded + i];
                }
            }
        }
    }
    return ET_OK;
}

et_status et_border_pad_f32(const et_border_shape *shape, const float *x, float *y)
{
    return each_border(shape, x, y, true);
}

et_status et_border_pad_grad_f32(const et_border_shape *shape, int32_t count, const float *dy, float *dx)
{
    if (count < 0 || dx == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t i = 0; i < (size_t)count; ++i)
        dx[i] = 0.0f;
    return each_border(shape, dy, dx, false);
}

et_status et_concat_f32(const et_concat_shape *shape, const float *x0, const float *x1, const float *x2,
    const float *x3, float *y)
{
    if (shape == NULL || y == NULL || shape->blocks < 0)
        return ET_BAD_ARGUMENT;
    const float *inputs[4] = {x0, x1, x2, x3};
    const int32_t lengths[4] = {shape->length0, shape->length1, shape->length2, shape->length3};
    size_t stride = 0;
    for (int k = 0; k < 4; ++k) {
        if (lengths[k] < 0 || (lengths[k] > 0 && inputs[k] == NULL))
            return ET_BAD_ARGUMENT;
        stride += (size_t)lengths[k];
    }
    for (int k = 0; k < 4; ++k) {
        const size_t length = (size_t)lengths[k];
        for (size_t block = 0; block < (size_t)shape->blocks && length > 0; ++block)
            copy(length, inputs[k] + block * length, y + block * stride);
        y += length;
    }
    return ET_OK;
}
