/* Windows of 2x2 that lie inside the image, on a PC, eight channels in a register. Not for callers.
 *
 * The same results as those of the loops over any window. One image at a time, so that threads can share a batch.
 */
#ifndef ET_POOL_LANES_H
#define ET_POOL_LANES_H

#include "et_block.h"
#include "et_lanes.h"
#include "et_pool.h"

#define ET_POOL_HAS_LANES ET_HAS_HALF

#if ET_POOL_HAS_LANES
#define ET_POOL_LANES 8u

ET_INLINE bool et_pool_is_of_lanes(const et_pool_shape *s)
{
    return s->kernel_height == 2 && s->kernel_width == 2 && s->dilation_height == 1 && s->dilation_width == 1
           && s->pad_top == 0 && s->pad_left == 0 && (s->out_height - 1) * s->stride_height + 1 < s->height
           && (s->out_width - 1) * s->stride_width + 1 < s->width && s->channels % (int32_t)ET_POOL_LANES == 0;
}

/* Which lanes of a tap are greater than the best before it, a bit each; the greater one takes its place. */
static inline uint32_t et_pool_take(__m256 tap, __m256 *best)
{
    const __m256 better = _mm256_cmp_ps(tap, *best, _CMP_GT_OQ);
    *best = _mm256_max_ps(tap, *best); /* the second where neither is greater, or one is no number */
    return (uint32_t)_mm256_movemask_ps(better);
}

/* Eight positions of two bits side by side, from their low bits and their high bits. */
static inline uint32_t et_pool_packed(uint32_t low, uint32_t high)
{
#if ET_LANES == 16 && defined(__BMI2__) /* slow on some cores without AVX-512 */
    return _pdep_u32(low, 0x5555u) | _pdep_u32(high, 0xAAAAu);
#else
    /* Low bits in the lower half of a word, high bits in the upper, then a gap after each. */
    uint32_t bits = low | high << 16;
    bits = (bits | bits << 4) & 0x0F0F0F0Fu;
    bits = (bits | bits << 2) & 0x33333333u;
    bits = (bits | bits << 1) & 0x55555555u;
    return bits | bits >> 15;
#endif
}

/* The windows of one image; packed: 2 bits for each channel, or NULL. */
ET_INLINE void et_max_of_lanes(const et_pool_shape *s, const float *x, float *ET_RESTRICT y, uint8_t *ET_RESTRICT packed)
{
    const size_t channels = (size_t)s->channels, row = (size_t)s->width * channels;
    for (int32_t oh = 0; oh < s->out_height; ++oh, x += (size_t)s->stride_height * row) {
        const float *top = x;
        for (int32_t ow = 0; ow < s->out_width; ++ow, top += (size_t)s->stride_width * channels) {
            for (size_t c = 0; c < channels; c += ET_POOL_LANES, y += ET_POOL_LANES) {
                const float *const bottom = top + row;
                __m256 best = _mm256_loadu_ps(top + c);
                const uint32_t second = et_pool_take(_mm256_loadu_ps(top + channels + c), &best);
                const uint32_t third = et_pool_take(_mm256_loadu_ps(bottom + c), &best);
                const uint32_t fourth = et_pool_take(_mm256_loadu_ps(bottom + channels + c), &best);
                _mm256_storeu_ps(y, best);
                if (packed == NULL)
                    continue;
                const uint32_t bits = et_pool_packed(fourth | (second & ~third), third | fourth);
                *packed++ = (uint8_t)bits;
                *packed++ = (uint8_t)(bits >> 8);
            }
        }
    }
}

/* Windows that cover the image, each element once. */
ET_INLINE bool et_pool_grad_is_of_lanes(const et_max_pool_grad_shape *s)
{
    return s->stride_height == 2 && s->stride_width == 2 && s->pad_top == 0 && s->pad_left == 0
           && s->height == 2 * s->out_height && s->width == 2 * s->out_width
           && s->channels % (int32_t)ET_POOL_LANES == 0 && s->tap_offset[1] == s->channels
           && s->tap_offset[2] == s->width * s->channels;
}

/* One image: 0 + dy at the position of each window, and 0 at the others. */
ET_INLINE void et_max_pool_grad_of_lanes(const et_max_pool_grad_shape *s, const float *dy, const uint8_t *packed,
                                         float *ET_RESTRICT dx)
{
    const size_t channels = (size_t)s->channels, row = (size_t)s->width * channels;
    const __m256i shifts = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14), mask = _mm256_set1_epi32(3);
    for (int32_t oh = 0; oh < s->out_height; ++oh, dx += row) {
        for (int32_t ow = 0; ow < s->out_width; ++ow, dx += channels) {
            for (size_t c = 0; c < channels; c += ET_POOL_LANES, dx += ET_POOL_LANES, dy += ET_POOL_LANES, packed += 2) {
                const __m256i bits = _mm256_set1_epi32(packed[0] | packed[1] << 8);
                const __m256i position = _mm256_and_si256(_mm256_srlv_epi32(bits, shifts), mask);
                const __m256 gradient = _mm256_add_ps(_mm256_setzero_ps(), _mm256_loadu_ps(dy));
                float *const taps[4] = {dx, dx + channels, dx + row, dx + row + channels};
                ET_UNROLL for (int32_t i = 0; i < 4; ++i) {
                    const __m256i here = _mm256_cmpeq_epi32(position, _mm256_set1_epi32(i));
                    _mm256_storeu_ps(taps[i], _mm256_and_ps(_mm256_castsi256_ps(here), gradient));
                }
            }
        }
    }
}
#endif

#endif
