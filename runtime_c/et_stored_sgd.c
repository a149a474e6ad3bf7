/* See et_stored_sgd.h. */
#include "et_stored_sgd.h"

#include "et_each.h"

et_status et_sgd_fixed16(
    size_t count, const et_stored_sgd *options, float learning_rate, uint32_t seed, uint32_t step,
    const float *gradient, const int16_t *stored, int16_t *stored_next)
{
    ET_TRY(et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT));
    const et_random_key_t key = et_random_key(seed, step, options->stream);
    const float back = et_stored_rate(options, learning_rate);
    const float resolution = et_power_of_two_f32(options->exponent);
    for (size_t i = 0; i < count; ++i) {
        const float v = et_stored_step(options, back, (float)stored[i] * resolution, gradient[i]);
        stored_next[i] = et_store_fixed16(v / resolution, et_stored_draw(options, key, (uint32_t)i));
    }
    return ET_OK;
}

#define SGD_OF_HALVES(LOAD, STORE)                                                                         \
    ET_TRY(et_check_finite_f32(count, gradient, ET_NONFINITE_GRADIENT));                                   \
    const et_random_key_t key = et_random_key(seed, step, options->stream);                                \
    const float back = et_stored_rate(options, learning_rate);                                             \
    for (size_t i = 0; i < count; ++i) {                                                                   \
        const uint32_t random = et_stored_draw(options, key, (uint32_t)i);                                 \
        stored_next[i] = STORE(et_stored_step(options, back, LOAD(stored[i]), gradient[i]), random);       \
    }                                                                                                      \
    return ET_OK

et_status et_sgd_fp16(
    size_t count, const et_stored_sgd *options, float learning_rate, uint32_t seed, uint32_t step,
    const float *gradient, const uint16_t *stored, uint16_t *stored_next)
{
    SGD_OF_HALVES(et_load_fp16, et_store_fp16);
}

et_status et_sgd_bf16(
    size_t count, const et_stored_sgd *options, float learning_rate, uint32_t seed, uint32_t step,
    const float *gradient, const uint16_t *stored, uint16_t *stored_next)
{
    SGD_OF_HALVES(et_load_bf16, et_store_bf16);
}

et_status et_decode_fp16(size_t count, const uint16_t *stored, float *y)
{
    for (size_t i = 0; i < count; ++i)
        y[i] = et_load_fp16(stored[i]);
    return ET_OK;
}

et_status et_decode_bf16(size_t count, const uint16_t *stored, float *y)
{
    for (size_t i = 0; i < count; ++i)
        y[i] = et_load_bf16(stored[i]);
    return ET_OK;
}

et_status et_decode_fixed16(size_t count, int32_t exponent, const int16_t *stored, float *y)
{
    const float resolution = et_power_of_two_f32(exponent);
    for (size_t i = 0; i < count; ++i)
        y[i] = (float)stored[i] * resolution;
    return ET_OK;
}
