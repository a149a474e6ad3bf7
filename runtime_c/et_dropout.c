/* See et_dropout.h. */
#include "et_dropout.h"

#include "et_random.h"

et_status et_dropout_f32(
    size_t count, float ratio, float scale, uint32_t seed, uint32_t step, uint32_t stream, const float *x, float *y)
{
    const et_random_key_t key = et_random_key(seed, step, stream);
    for (size_t i = 0; i < count; ++i)
        y[i] = et_random_unit_at_f32(key, (uint32_t)i) >= ratio ? x[i] * scale : 0.0f;
    return ET_OK;
}
