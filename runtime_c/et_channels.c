/* See et_channels.h. */
#include "et_channels.h"

#include "et_math.h"

et_status et_take_channels_f32(const et_channels *channels, const float *x, float *y)
{
    for (int32_t i = 0; i < channels->runs; ++i) {
        const et_channel_run run = channels->run[i];
        for (int32_t row = 0; row < channels->rows; ++row) {
            const float *from = x + run.whole + row * run.whole_step;
            float *to = y + run.part + row * run.part_step;
            for (int32_t j = 0; j < run.count; ++j)
                to[j] = from[j];
        }
    }
    return ET_OK;
}

/* Every element of the gradient is finite, or nothing is changed: before the first run, not in the middle. */
static et_status check(const et_channels *channels, const float *gradient)
{
    size_t count = 0;
    for (int32_t i = 0; i < channels->runs; ++i)
        count += (size_t)channels->run[i].count * (size_t)channels->rows;
    return et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT);
}

/* Runs a kernel of et_optimizer.h on each row of each run: `w` and `part` are where these begin. */
#define EACH_ROW(channels, CALL)                                                                                       \
    for (int32_t i = 0; i < (channels)->runs; ++i) {                                                                   \
        const et_channel_run run = (channels)->run[i];                                                                 \
        for (int32_t row = 0; row < (channels)->rows; ++row) {                                                         \
            const int32_t whole = run.whole + row * run.whole_step;                                                    \
            const int32_t part = run.part + row * run.part_step;                                                       \
            ET_TRY(CALL);                                                                                              \
        }                                                                                                              \
    }

et_status et_sgd_channels_f32(
    const et_channels *channels, float learning_rate, float weight_decay, const float *gradient, const float *w,
    float *w_next)
{
    ET_TRY(check(channels, gradient));
    EACH_ROW(
        channels,
        et_sgd_f32((size_t)run.count, learning_rate, weight_decay, gradient + part, w + whole, w_next + whole))
    return ET_OK;
}

et_status et_sgd_momentum_channels_f32(
    const et_channels *channels, float learning_rate, float weight_decay, float momentum, bool nesterov,
    const float *gradient, const float *w, float *w_next, const float *velocity, float *velocity_next)
{
    ET_TRY(check(channels, gradient));
    EACH_ROW(
        channels,
        et_sgd_momentum_f32(
            (size_t)run.count, learning_rate, weight_decay, momentum, nesterov, gradient + part, w + whole,
            w_next + whole, velocity + part, velocity_next + part))
    return ET_OK;
}

et_status et_adam_channels_f32(
    const et_channels *channels, float learning_rate, const et_adam *options, const float *powers,
    const float *gradient, const float *w, float *w_next, const float *m, float *m_next, const float *v,
    float *v_next)
{
    ET_TRY(check(channels, gradient));
    EACH_ROW(
        channels,
        et_adam_f32(
            (size_t)run.count, learning_rate, options, powers, gradient + part, w + whole, w_next + whole, m + part,
            m_next + part, v + part, v_next + part))
    return ET_OK;
}
