#include "et_reduce.h"

#include "et_block.h"

/* Sums that grow side by side, in registers. */
#define BLOCK ET_BLOCK_OF(8, 32)

/* `width` means; a constant wherever this is inlined, and at most BLOCK. `across` is the step from one to the next. */
ET_INLINE void means(size_t count, size_t down, size_t across, float share, const float *x, float *ET_RESTRICT y,
    size_t width)
{
    float sum[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; ++i)
        sum[i] = 0.0f;
    for (size_t k = 0; k < count; ++k, x += down)
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            sum[i] += x[i * across];
    ET_UNROLL
    for (size_t i = 0; i < width; ++i)
        y[i] = sum[i] * share;
}

ET_INLINE void all_means(size_t total, size_t count, size_t down, size_t across, const float *x, float *y)
{
    const float share = 1.0f / (float)count;
    size_t i = 0;
    for (; i + BLOCK <= total; i += BLOCK)
        means(count, down, across, share, x + i * across, y + i, BLOCK);
    for (; i + 4 <= total; i += 4)
        means(count, down, across, share, x + i * across, y + i, 4);
    for (; i < total; ++i)
        means(count, down, across, share, x + i * across, y + i, 1);
}

static bool is_valid(const et_reduce_shape *shape)
{
    return shape != NULL && shape->outer >= 0 && shape->count > 0 && shape->inner > 0;
}

et_status et_reduce_mean_f32(const et_reduce_shape *shape, const float *x, float *y)
{
    if (!is_valid(shape) || x == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    const size_t outer = (size_t)shape->outer, count = (size_t)shape->count, inner = (size_t)shape->inner;
    if (inner == 1) {
        /* Several rows at once: one sum alone would wait for itself at every addition. */
        all_means(outer, count, 1, count, x, y);
        return ET_OK;
    }
    for (size_t o = 0; o < outer; ++o)
        all_means(inner, count, inner, 1, x + o * count * inner, y + o * inner);
    return ET_OK;
}

et_status et_reduce_mean_grad_f32(const et_reduce_shape *shape, const float *dy, float *dx)
{
    if (!is_valid(shape) || dy == NULL || dx == NULL)
        return ET_BAD_ARGUMENT;
    const size_t outer = (size_t)shape->outer, count = (size_t)shape->count, inner = (size_t)shape->inner;
    const float share = 1.0f / (float)shape->count;
    for (size_t o = 0; o < outer; ++o) {
        const float *ET_RESTRICT from = dy + o * inner;
        float *ET_RESTRICT to = dx + o * count * inner;
        for (size_t i = 0; i < inner; ++i) {
            const float part = from[i] * share;
            to[i] = part;
        }
        for (size_t k = 1; k < count; ++k)
            for (size_t i = 0; i < inner; ++i)
                to[k * inner + i] = to[i];
    }
    return ET_OK;
}
