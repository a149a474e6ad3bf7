/* See et_half_maps.h. */
#include "et_half_maps.h"

#include "et_block.h"
#include "et_half_number.h"
#include "et_repeat.h"

#if ET_HAS_ZFH
#define ABOVE_0(i) et_number_above_0(from[i])
#else
#define ABOVE_0(i) (et_element)((uint16_t)(from[i] - 1u) < 0x7C00u ? from[i] : 0u) /* 1 to infinity */
#endif

et_status et_relu_fp16(size_t count, const uint16_t *x, uint16_t *y)
{
    const et_element *from = (const et_element *)x;
    et_element *to = (et_element *)y;
    ET_EACH_OF(et_element, count, to, ABOVE_0);
    return ET_OK;
}

/* Two numbers in a word: what is not 0 carries into its highest bit, which is clear in outputs of ReLU. */
typedef uint32_t two_halves __attribute__((may_alias));
#define PASS_TWO(i) (gradients[i] & (((outputs[i] + 0x7FFF7FFFu) & 0x80008000u) >> 15) * 0xFFFFu)

static void close_where_0(size_t count, const uint16_t *y, uint16_t *dx)
{
    const uint16_t *const end = y + count;
#define CLOSE(m, j)   \
    if (y[j] == 0u)   \
        dx[j] = 0u;
#if !ET_SMALL_CODE
    for (const uint16_t *const whole = y + (count & ~(size_t)7); y != whole; y += 8, dx += 8) {
        ET_COLUMNS_8(CLOSE, 0)
    }
#endif
    for (; y != end; y++, dx++) {
        ET_COLUMNS_1(CLOSE, 0)
    }
#undef CLOSE
}

et_status et_relu_grad_fp16(size_t count, const uint16_t *dy, const uint16_t *y, uint16_t *dx)
{
#define PASS(i) (uint16_t)(dy[i] & (0u - (uint32_t)(y[i] != 0u)))
    if (ET_SCALAR_CORE && dx == dy) { /* what passes is not touched */
        close_where_0(count, y, dx);
        return ET_OK;
    }
    if (count >= 2 && (((uintptr_t)dy | (uintptr_t)y | (uintptr_t)dx) & 3u) == 0u) {
        const two_halves *gradients = (const two_halves *)(const void *)dy;
        const two_halves *outputs = (const two_halves *)(const void *)y;
        two_halves *results = (two_halves *)(void *)dx;
        ET_EACH_OF(uint32_t, count / 2, results, PASS_TWO);
        if (count % 2 != 0)
            dx[count - 1] = PASS(count - 1);
        return ET_OK;
    }
    ET_EACH_OF(uint16_t, count, dx, PASS);
    return ET_OK;
}

et_status et_add_fp16(size_t count, const uint16_t *a, const uint16_t *b, uint16_t *y)
{
    const et_element *left = (const et_element *)a, *right = (const et_element *)b;
    et_element *to = (et_element *)y;
#define SUM(i) et_element_of(et_number_add(ET_ELEMENT_VALUE(left[i]), ET_ELEMENT_VALUE(right[i])))
    ET_EACH_OF(et_element, count, to, SUM);
    return ET_OK;
}

#if ET_FORM_RECTIFY
et_status et_add_relu_fp16(size_t count, const uint16_t *a, const uint16_t *b, uint16_t *y)
{
    const et_element *left = (const et_element *)a, *right = (const et_element *)b;
    et_element *to = (et_element *)y;
#define SUM_ABOVE_0(i) \
    et_element_of(et_number_above_0(et_number_add(ET_ELEMENT_VALUE(left[i]), ET_ELEMENT_VALUE(right[i]))))
    ET_EACH_OF(et_element, count, to, SUM_ABOVE_0);
    return ET_OK;
}
#endif

/* Calls SUMS(width, ...) for blocks of channels, c being the first; `width` is a constant wherever it is inlined. */
enum { BLOCK = ET_BLOCK_OF(8, 16), WIDE = ET_SMALL_CODE ? BLOCK : 16 };
#define EACH_BLOCK(channels, SUMS, rows, factor, x, y)                \
    do {                                                              \
        size_t c = 0;                                                 \
        for (; WIDE != BLOCK && c + WIDE <= (channels); c += WIDE)    \
            SUMS(WIDE, rows, channels, factor, (x) + c, (y) + c);     \
        for (; c + BLOCK <= (channels); c += BLOCK)                   \
            SUMS(BLOCK, rows, channels, factor, (x) + c, (y) + c);    \
        for (; c < (channels); c++)                                   \
            SUMS(1, rows, channels, factor, (x) + c, (y) + c);        \
    } while (0)

ET_INLINE void sums(size_t width, size_t rows, size_t channels, float factor, const et_element *x, float *sum)
{
    ET_UNROLL
    for (size_t i = 0; i < width; i++)
        sum[i] = 0.0f;
    for (; rows != 0; rows--, x += channels)
        ET_UNROLL
        for (size_t i = 0; i < width; i++)
            sum[i] += (float)ET_ELEMENT_VALUE(x[i]);
    ET_UNROLL
    for (size_t i = 0; i < width; i++)
        sum[i] *= factor;
}

ET_INLINE void real_sums(size_t width, size_t rows, size_t channels, float factor, const et_element *x, float *y)
{
    float sum[WIDE];
    sums(width, rows, channels, factor, x, sum);
    ET_UNROLL
    for (size_t i = 0; i < width; i++)
        y[i] = sum[i];
}

ET_INLINE void half_sums(size_t width, size_t rows, size_t channels, float factor, const et_element *x, et_element *y)
{
    float sum[WIDE];
    sums(width, rows, channels, factor, x, sum);
    ET_UNROLL
    for (size_t i = 0; i < width; i++)
        y[i] = et_element_of(et_number_of(sum[i]));
}

et_status et_sum_rows_fp16(size_t rows, size_t channels, float factor, const uint16_t *x, float *y)
{
    const et_element *from = (const et_element *)x;
    EACH_BLOCK(channels, real_sums, rows, factor, from, y);
    return ET_OK;
}

et_status et_mean_rows_fp16(size_t images, size_t rows, size_t channels, const uint16_t *x, uint16_t *y)
{
    const float share = 1.0f / (float)rows;
    const et_element *from = (const et_element *)x;
    et_element *to = (et_element *)y;
    for (; images != 0; images--, from += rows * channels, to += channels)
        EACH_BLOCK(channels, half_sums, rows, share, from, to);
    return ET_OK;
}

/* The share of a block of channels, in every row. */
ET_INLINE void spread(size_t width, size_t rows, size_t channels, float share, const et_element *dy, et_element *dx)
{
    et_element part[WIDE];
    ET_UNROLL
    for (size_t i = 0; i < width; i++)
        part[i] = et_element_of(et_number_of((float)ET_ELEMENT_VALUE(dy[i]) * share));
    for (; rows != 0; rows--, dx += channels)
        ET_UNROLL
        for (size_t i = 0; i < width; i++)
            dx[i] = part[i];
}

et_status et_mean_rows_grad_fp16(size_t images, size_t rows, size_t channels, const uint16_t *dy, uint16_t *dx)
{
    const float share = 1.0f / (float)rows;
    const et_element *from = (const et_element *)dy;
    et_element *to = (et_element *)dx;
    for (; images != 0; images--, from += channels, to += rows * channels)
        EACH_BLOCK(channels, spread, rows, share, from, to);
    return ET_OK;
}
