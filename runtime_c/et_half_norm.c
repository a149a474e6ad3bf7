/* See et_half_norm.h. */
#include "et_half_norm.h"

#include "et_block.h"
#include "et_half_number.h"

/* Channels that are worked on at once: what each of them needs stays in registers while the rows go by. */
enum { BLOCK = ET_BLOCK_OF(8, 16) };

/* Calls FUNCTION(first channel, how many of them, ...) for blocks of channels, and then for single ones. */
#define EACH_BLOCK(channels, FUNCTION, ...)             \
    do {                                                \
        size_t c_ = 0;                                  \
        for (; c_ + BLOCK <= (channels); c_ += BLOCK)   \
            FUNCTION(c_, BLOCK, __VA_ARGS__);           \
        for (; c_ < (channels); ++c_)                   \
            FUNCTION(c_, 1, __VA_ARGS__);               \
    } while (0)

/* y = fma16(x, gain, shift). Half of a block is computed before it is stored: y may be x. */
ET_INLINE void apply(size_t width, size_t rows, size_t channels, const et_element *x, const et_number *gain,
                     const et_number *shift, et_element *y)
{
    for (; rows != 0; rows--, x += channels, y += channels) {
        et_element result[BLOCK];
        ET_UNROLL
        for (size_t i = 0; i < width; i++)
            result[i] = et_element_of(et_number_madd(ET_ELEMENT_VALUE(x[i]), gain[i], shift[i]));
        ET_UNROLL
        for (size_t i = 0; i < width; i++)
            y[i] = result[i];
    }
}

ET_INLINE void running(size_t c, size_t width, size_t rows, size_t channels, float epsilon, const et_element *x,
                       const float *gamma, const float *beta, const float *mean, const float *var, et_element *y)
{
    et_number gain[BLOCK], shift[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; i++) {
        const float factor = gamma[c + i] / et_sqrt_f32(var[c + i] + epsilon);
        gain[i] = et_number_of(factor);
        shift[i] = et_number_of(et_madd(-mean[c + i], factor, beta[c + i]));
    }
    apply(width, rows, channels, x + c, gain, shift, y + c);
}

et_status et_batch_norm_fp16(int32_t rows, int32_t channels, float epsilon, const uint16_t *x, const float *gamma,
                             const float *beta, const float *mean, const float *var, uint16_t *y)
{
    if (rows < 0 || channels <= 0)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK((size_t)channels, running, (size_t)rows, (size_t)channels, epsilon, (const et_element *)x, gamma, beta,
               mean, var, (et_element *)y);
    return ET_OK;
}

ET_INLINE void train(size_t c, size_t width, size_t rows, size_t channels, float epsilon, const et_element *x,
                     const float *gamma, const float *beta, et_element *y, float *mean, float *inverse, float *variance)
{
    const float share = 1.0f / (float)rows, unbiased = (float)rows / (float)(rows - 1);
    float sum[BLOCK], squares[BLOCK];
    et_number gain[BLOCK], shift[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; i++)
        sum[i] = squares[i] = 0.0f;
    const et_element *from = x + c;
    for (size_t row = rows; row != 0; row--, from += channels)
        ET_UNROLL
        for (size_t i = 0; i < width; i++) {
            const float value = (float)ET_ELEMENT_VALUE(from[i]);
            sum[i] += value;
            squares[i] = et_madd(value, value, squares[i]);
        }
    ET_UNROLL
    for (size_t i = 0; i < width; i++) {
        const float centre = sum[i] * share, spread = et_madd(-centre, centre, squares[i] * share);
        const float biased = spread > 0.0f ? spread : 0.0f, deviation = et_rsqrt_f32(biased + epsilon);
        const float factor = gamma[c + i] * deviation;
        mean[c + i] = centre;
        inverse[c + i] = deviation;
        variance[c + i] = biased * unbiased;
        gain[i] = et_number_of(factor);
        shift[i] = et_number_of(et_madd(-centre, factor, beta[c + i]));
    }
    apply(width, rows, channels, x + c, gain, shift, y + c);
}

et_status et_batch_norm_train_fp16(int32_t rows, int32_t channels, float epsilon, const uint16_t *x, const float *gamma,
                                   const float *beta, uint16_t *y, float *mean, float *inverse, float *variance)
{
    if (rows < 2 || channels <= 0)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK((size_t)channels, train, (size_t)rows, (size_t)channels, epsilon, (const et_element *)x, gamma, beta,
               (et_element *)y, mean, inverse, variance);
    return ET_OK;
}

ET_INLINE void parameters(size_t c, size_t width, size_t rows, size_t channels, float unscale, const et_element *dy,
                          const et_element *x, const float *mean, const float *inverse, float *dgamma, float *dbeta)
{
    float product[BLOCK], sum[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; i++)
        product[i] = sum[i] = 0.0f;
    dy += c;
    x += c;
    for (; rows != 0; rows--, dy += channels, x += channels)
        ET_UNROLL
        for (size_t i = 0; i < width; i++) {
            const float gradient = (float)ET_ELEMENT_VALUE(dy[i]);
            product[i] = et_madd(gradient, (float)ET_ELEMENT_VALUE(x[i]), product[i]);
            sum[i] += gradient;
        }
    ET_UNROLL
    for (size_t i = 0; i < width; i++) {
        const float centred = et_madd(-mean[c + i], sum[i], product[i]);
        dgamma[c + i] = (centred * inverse[c + i]) * unscale;
        dbeta[c + i] = sum[i] * unscale;
    }
}

et_status et_batch_norm_grad_parameters_fp16(int32_t rows, int32_t channels, float unscale, const uint16_t *dy,
                                             const uint16_t *x, const float *mean, const float *inverse, float *dgamma,
                                             float *dbeta)
{
    if (rows < 0 || channels <= 0)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK((size_t)channels, parameters, (size_t)rows, (size_t)channels, unscale, (const et_element *)dy,
               (const et_element *)x, mean, inverse, dgamma, dbeta);
    return ET_OK;
}

ET_INLINE void batch(size_t c, size_t width, size_t rows, size_t channels, float scale, const et_element *dy,
                     const et_element *x, const float *gamma, const float *mean, const float *inverse,
                     const float *dgamma, const float *dbeta, et_element *dx)
{
    const float share = 1.0f / (float)rows;
    et_number gain[BLOCK], slope[BLOCK], shift[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; i++) {
        const float factor = gamma[c + i] * inverse[c + i];
        const float with_x = -(factor * (((dgamma[c + i] * inverse[c + i]) * share) * scale));
        gain[i] = et_number_of(factor);
        slope[i] = et_number_of(with_x);
        shift[i] = et_number_of(et_madd(-with_x, mean[c + i], -(factor * ((dbeta[c + i] * share) * scale))));
    }
    dy += c;
    x += c;
    dx += c;
    for (; rows != 0; rows--, dy += channels, x += channels, dx += channels) {
        et_element result[BLOCK];
        ET_UNROLL
        for (size_t i = 0; i < width; i++) {
            const et_number rest = et_number_madd(ET_ELEMENT_VALUE(x[i]), slope[i], shift[i]);
            result[i] = et_element_of(et_number_madd(ET_ELEMENT_VALUE(dy[i]), gain[i], rest));
        }
        ET_UNROLL
        for (size_t i = 0; i < width; i++)
            dx[i] = result[i];
    }
}

et_status et_batch_norm_grad_batch_fp16(int32_t rows, int32_t channels, float scale, const uint16_t *dy,
                                        const uint16_t *x, const float *gamma, const float *mean, const float *inverse,
                                        const float *dgamma, const float *dbeta, uint16_t *dx)
{
    if (rows < 1 || channels <= 0)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK((size_t)channels, batch, (size_t)rows, (size_t)channels, scale, (const et_element *)dy,
               (const et_element *)x, gamma, mean, inverse, dgamma, dbeta, (et_element *)dx);
    return ET_OK;
}

ET_INLINE void scaled(size_t c, size_t width, size_t rows, size_t channels, const et_element *dy, const float *gamma,
                      const float *inverse, et_element *dx)
{
    et_number gain[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; i++)
        gain[i] = et_number_of(gamma[c + i] * inverse[c + i]);
    dy += c;
    dx += c;
    for (; rows != 0; rows--, dy += channels, dx += channels)
        ET_UNROLL
        for (size_t i = 0; i < width; i++)
            dx[i] = et_element_of(et_number_mul(ET_ELEMENT_VALUE(dy[i]), gain[i]));
}

et_status et_batch_norm_grad_running_fp16(int32_t rows, int32_t channels, const uint16_t *dy, const float *gamma,
                                          const float *inverse, uint16_t *dx)
{
    if (rows < 0 || channels <= 0)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK((size_t)channels, scaled, (size_t)rows, (size_t)channels, (const et_element *)dy, gamma, inverse,
               (et_element *)dx);
    return ET_OK;
}
