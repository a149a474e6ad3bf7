/* Windows of 2x2 that lie inside the image, on a core that computes one number at a time. Not for callers.
 *
 * The same results as those of the loops over any window; four channels in a step, so that their positions are a byte.
 */
#ifndef ET_POOL_QUADS_H
#define ET_POOL_QUADS_H

#include "et_block.h"
#include "et_pool.h"

#define ET_POOL_HAS_QUADS ET_SCALAR_CORE

#if ET_POOL_HAS_QUADS
ET_INLINE bool et_pool_is_of_quads(const et_pool_shape *s)
{
    return s->kernel_height == 2 && s->kernel_width == 2 && s->dilation_height == 1 && s->dilation_width == 1
           && s->pad_top == 0 && s->pad_left == 0 && (s->out_height - 1) * s->stride_height + 1 < s->height
           && (s->out_width - 1) * s->stride_width + 1 < s->width && s->channels % 4 == 0;
}

/* Best of four taps in order, and which: the greater one takes the place of those before it. In one branch, where clang
 * would take one for each of both. */
#define ET_POOL_TAKE(taps, tap)          \
    if ((taps)[i] > best) {              \
        best = (taps)[i];                \
        byte = before + (tap << 2 * i);  \
        ET_OPAQUE(byte);                 \
    }

/* All windows; packed: 2 bits for each channel, or NULL. */
ET_INLINE void et_max_of_quads(const et_pool_shape *s, const float *x, float *ET_RESTRICT y, uint8_t *ET_RESTRICT packed)
{
    const size_t channels = (size_t)s->channels, row = (size_t)s->width * channels;
    const size_t across = (size_t)s->stride_width * channels - channels;
    for (int32_t n = s->batch; n > 0; --n, x += (size_t)s->height * row) {
        const float *line = x;
        for (int32_t oh = s->out_height; oh > 0; --oh, line += (size_t)s->stride_height * row) {
            const float *top = line, *bottom = line + row;
            for (int32_t ow = s->out_width; ow > 0; --ow, top += across, bottom += across) {
                const float *right = top + channels, *last = bottom + channels;
                for (const float *end = right; top != end; top += 4, right += 4, bottom += 4, last += 4, y += 4) {
                    uint32_t byte = 0;
                    ET_UNROLL for (uint32_t i = 0; i < 4; ++i) {
                        const uint32_t before = byte;
                        float best = top[i];
                        ET_POOL_TAKE(right, 1u)
                        ET_POOL_TAKE(bottom, 2u)
                        ET_POOL_TAKE(last, 3u)
                        y[i] = best;
                    }
                    if (packed != NULL)
                        *packed++ = (uint8_t)byte;
                }
            }
        }
    }
}

/* Windows that cover the image, each element once. */
ET_INLINE bool et_pool_grad_is_of_quads(const et_max_pool_grad_shape *s)
{
    return s->stride_height == 2 && s->stride_width == 2 && s->pad_top == 0 && s->pad_left == 0
           && s->height == 2 * s->out_height && s->width == 2 * s->out_width && s->channels % 4 == 0
           && s->tap_offset[1] == s->channels && s->tap_offset[2] == s->width * s->channels;
}

/* 0 + dy at the position of each window, and 0 at the others. */
ET_INLINE void et_max_pool_grad_of_quads(const et_max_pool_grad_shape *s, const float *dy, const uint8_t *packed,
                                         float *ET_RESTRICT dx)
{
    const size_t channels = (size_t)s->channels, row = (size_t)s->width * channels;
    const size_t offset[4] = {0, channels, row, row + channels};
    for (int32_t lines = s->batch * s->out_height; lines > 0; --lines, dx += row) {
        for (int32_t ow = s->out_width; ow > 0; --ow, dx += channels) {
            float *right = dx + channels, *bottom = dx + row, *last = bottom + channels;
            for (const float *end = right; dx != end; dx += 4, right += 4, bottom += 4, last += 4, dy += 4) {
                const uint32_t byte = *packed++;
                ET_UNROLL for (uint32_t i = 0; i < 4; ++i) {
                    const float gradient = 0.0f + dy[i];
                    dx[i] = 0.0f;
                    right[i] = 0.0f;
                    bottom[i] = 0.0f;
                    last[i] = 0.0f;
                    dx[offset[byte >> 2 * i & 3u] + i] = gradient;
                }
            }
        }
    }
}
#endif

#endif
