#include "et_norm.h"

#include "et_block.h"
#include "et_each.h"
#include "et_math.h"
#include "et_rectify.h"

/* Channels that are worked on at once: what each of them needs stays in registers while the rows go by. */
#define BLOCK ET_BLOCK_OF(4, 16)

/* Calls FUNCTION(first channel, how many of them, ...) for blocks of channels, and then for single ones. */
#define EACH_BLOCK(channels, FUNCTION, ...)             \
    do {                                                \
        size_t c_ = 0;                                  \
        for (; c_ + BLOCK <= (channels); c_ += BLOCK)   \
            FUNCTION(c_, BLOCK, __VA_ARGS__);           \
        for (; BLOCK > 4 && c_ + 4 <= (channels); c_ += 4) \
            FUNCTION(c_, 4, __VA_ARGS__);               \
        for (; c_ < (channels); ++c_)                   \
            FUNCTION(c_, 1, __VA_ARGS__);               \
    } while (0)

et_status et_batch_norm_f32(int32_t rows, int32_t channels, float epsilon, const float *x, const float *gamma,
    const float *beta, const float *mean, const float *var, void *scratch, float *y)
{
    if (rows < 0 || channels <= 0 || x == NULL || gamma == NULL || beta == NULL || mean == NULL || var == NULL
        || scratch == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    const size_t count = (size_t)channels;
    float *scale = scratch;
    float *shift = scale + count;
    for (size_t c = 0; c < count; ++c) {
        scale[c] = gamma[c] / et_sqrt_f32(var[c] + epsilon);
        shift[c] = et_madd(-mean[c], scale[c], beta[c]);
    }
    for (int32_t row = 0; row < rows; ++row, x += count, y += count) {
#define VALUE(c) et_madd(x[c], scale[c], shift[c])
        ET_EACH(count, y, VALUE);
#undef VALUE
    }
    return ET_OK;
}

/* What comes after a normalization. */
typedef struct {
    bool any;
    bool relu;
    float ceiling;
    const float *addend; /* NULL for none */
} after;

ET_INLINE void train_block(size_t c, size_t width, size_t rows, size_t channels, float epsilon, after next,
    const float *x, const float *gamma, const float *beta, float *y, float *mean, float *inverse, float *variance)
{
    const float share = 1.0f / (float)rows, unbiased = 1.0f / (float)(rows - 1);
    float centre[BLOCK], squares[BLOCK], scale[BLOCK], shift[BLOCK];

    ET_UNROLL
    for (size_t i = 0; i < width; ++i)
        centre[i] = squares[i] = 0.0f;
    for (size_t row = 0; row < rows; ++row)
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            centre[i] += x[row * channels + c + i];
    ET_UNROLL
    for (size_t i = 0; i < width; ++i)
        centre[i] *= share;
    for (size_t row = 0; row < rows; ++row) {
        ET_UNROLL
        for (size_t i = 0; i < width; ++i) {
            const float deviation = x[row * channels + c + i] - centre[i];
            squares[i] = et_madd(deviation, deviation, squares[i]);
        }
    }
    ET_UNROLL
    for (size_t i = 0; i < width; ++i) {
        const float biased = squares[i] * share;
        const float deviation = et_rsqrt_f32(biased + epsilon);
        mean[c + i] = centre[i];
        inverse[c + i] = deviation;
        variance[c + i] = squares[i] * unbiased;
        scale[i] = gamma[c + i] * deviation;
        shift[i] = beta[c + i];
    }
    for (size_t row = 0; row < rows; ++row) {
        float result[BLOCK];
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            result[i] = et_madd(x[row * channels + c + i] - centre[i], scale[i], shift[i]);
        if (next.any && next.addend != NULL) {
            ET_UNROLL
            for (size_t i = 0; i < width; ++i)
                result[i] += next.addend[row * channels + c + i];
        }
        if (next.any && next.relu) {
            ET_UNROLL
            for (size_t i = 0; i < width; ++i) {
                result[i] = et_relu(result[i]);
#if ET_FORM_CEILING
                result[i] = et_at_most(result[i], next.ceiling);
#endif
            }
        }
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            y[row * channels + c + i] = result[i];
    }
}

ET_INLINE et_status train(int32_t rows, int32_t channels, float epsilon, after next, const float *x, const float *gamma,
    const float *beta, float *y, float *mean, float *inverse, float *variance)
{
    if (rows < 2 || channels <= 0 || x == NULL || gamma == NULL || beta == NULL || y == NULL || mean == NULL
        || inverse == NULL || variance == NULL)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK((size_t)channels, train_block, (size_t)rows, (size_t)channels, epsilon, next, x, gamma, beta, y, mean,
        inverse, variance);
    return ET_OK;
}

/* One for all that come after: the code is larger than what a choice for each row costs. */
static ET_NOINLINE et_status train_and(int32_t rows, int32_t channels, float epsilon, const after *next, const float *x,
    const float *gamma, const float *beta, float *y, float *mean, float *inverse, float *variance)
{
    const after those = {.any = true, .relu = next->relu, .ceiling = next->ceiling, .addend = next->addend};
    return train(rows, channels, epsilon, those, x, gamma, beta, y, mean, inverse, variance);
}

et_status et_batch_norm_train_f32(int32_t rows, int32_t channels, float epsilon, const float *x, const float *gamma,
    const float *beta, float *y, float *mean, float *inverse, float *variance)
{
    const after nothing = {.any = false};
    return train(rows, channels, epsilon, nothing, x, gamma, beta, y, mean, inverse, variance);
}

et_status et_batch_norm_train_relu_f32(int32_t rows, int32_t channels, float epsilon, float ceiling, const float *x,
    const float *gamma, const float *beta, float *y, float *mean, float *inverse, float *variance)
{
    const after next = {.relu = true, .ceiling = ceiling};
    return train_and(rows, channels, epsilon, &next, x, gamma, beta, y, mean, inverse, variance);
}

et_status et_batch_norm_train_add_f32(int32_t rows, int32_t channels, float epsilon, const float *x, const float *gamma,
    const float *beta, const float *addend, float *y, float *mean, float *inverse, float *variance)
{
    const after next = {.addend = addend};
    return train_and(rows, channels, epsilon, &next, x, gamma, beta, y, mean, inverse, variance);
}

et_status et_batch_norm_train_add_relu_f32(int32_t rows, int32_t channels, float epsilon, float ceiling, const float *x,
    const float *gamma, const float *beta, const float *addend, float *y, float *mean, float *inverse, float *variance)
{
    const after next = {.relu = true, .ceiling = ceiling, .addend = addend};
    return train_and(rows, channels, epsilon, &next, x, gamma, beta, y, mean, inverse, variance);
}

et_status et_running_statistic_f32(int32_t count, float keep, float take, const float *running, const float *batch,
    float *next)
{
    if (count < 0 || running == NULL || batch == NULL || next == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t i = 0; i < (size_t)count; ++i) {
        const float part = take * batch[i];
        next[i] = et_madd(keep, running[i], part);
    }
    return ET_OK;
}

et_status et_inverse_deviation_f32(int32_t count, float epsilon, const float *var, float *inverse)
{
    if (count < 0 || var == NULL || inverse == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t i = 0; i < (size_t)count; ++i)
        inverse[i] = et_rsqrt_f32(var[i] + epsilon);
    return ET_OK;
}

ET_INLINE void parameters_block(size_t c, size_t width, size_t rows, size_t channels, const float *dy,
    const float *x, const float *mean, const float *inverse, float *dgamma, float *dbeta)
{
    float centre[BLOCK], product[BLOCK], sum[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; ++i) {
        centre[i] = mean[c + i];
        product[i] = sum[i] = 0.0f;
    }
    for (size_t row = 0; row < rows; ++row) {
        ET_UNROLL
        for (size_t i = 0; i < width; ++i) {
            const float gradient = dy[row * channels + c + i];
            product[i] = et_madd(gradient, x[row * channels + c + i] - centre[i], product[i]);
            sum[i] += gradient;
        }
    }
    ET_UNROLL
    for (size_t i = 0; i < width; ++i) {
        dgamma[c + i] = product[i] * inverse[c + i];
        dbeta[c + i] = sum[i];
    }
}

et_status et_batch_norm_grad_parameters_f32(int32_t rows, int32_t channels, const float *dy, const float *x,
    const float *mean, const float *inverse, float *dgamma, float *dbeta)
{
    if (rows < 0 || channels <= 0 || dy == NULL || x == NULL || mean == NULL || inverse == NULL || dgamma == NULL
        || dbeta == NULL)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK((size_t)channels, parameters_block, (size_t)rows, (size_t)channels, dy, x, mean, inverse, dgamma, dbeta);
    return ET_OK;
}

ET_INLINE void running_block(size_t c, size_t width, size_t rows, size_t channels, const float *dy,
    const float *gamma, const float *inverse, float *dx)
{
    float scale[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; ++i)
        scale[i] = gamma[c + i] * inverse[c + i];
    for (size_t row = 0; row < rows; ++row) {
        float result[BLOCK];
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            result[i] = dy[row * channels + c + i] * scale[i];
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            dx[row * channels + c + i] = result[i];
    }
}

et_status et_batch_norm_grad_running_f32(int32_t rows, int32_t channels, const float *dy, const float *gamma,
    const float *inverse, float *dx)
{
    if (rows < 0 || channels <= 0 || dy == NULL || gamma == NULL || inverse == NULL || dx == NULL)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK((size_t)channels, running_block, (size_t)rows, (size_t)channels, dy, gamma, inverse, dx);
    return ET_OK;
}

ET_INLINE void batch_block(size_t c, size_t width, size_t rows, size_t channels, const float *dy, const float *x,
    const float *gamma, const float *mean, const float *inverse, const float *dgamma, const float *dbeta, float *dx)
{
    const float share = 1.0f / (float)rows;
    float centre[BLOCK], scale[BLOCK], slope[BLOCK], shift[BLOCK];
    ET_UNROLL
    for (size_t i = 0; i < width; ++i) {
        centre[i] = mean[c + i];
        scale[i] = gamma[c + i] * inverse[c + i];
        slope[i] = -((dgamma[c + i] * inverse[c + i]) * share);
        shift[i] = dbeta[c + i] * share;
    }
    for (size_t row = 0; row < rows; ++row) {
        float result[BLOCK];
        ET_UNROLL
        for (size_t i = 0; i < width; ++i) {
            const size_t at = row * channels + c + i;
            result[i] = scale[i] * et_madd(slope[i], x[at] - centre[i], dy[at] - shift[i]);
        }
        ET_UNROLL
        for (size_t i = 0; i < width; ++i)
            dx[row * channels + c + i] = result[i];
    }
}

et_status et_batch_norm_grad_batch_f32(int32_t rows, int32_t channels, const float *dy, const float *x,
    const float *gamma, const float *mean, const float *inverse, const float *dgamma, const float *dbeta, float *dx)
{
    if (rows < 1 || channels <= 0 || dy == NULL || x == NULL || gamma == NULL || mean == NULL || inverse == NULL
        || dgamma == NULL || dbeta == NULL || dx == NULL)
        return ET_BAD_ARGUMENT;
    EACH_BLOCK((size_t)channels, batch_block, (size_t)rows, (size_t)channels, dy, x, gamma, mean, inverse, dgamma,
        dbeta, dx);
    return ET_OK;
}
