/* See et_random.h. */
#include "et_random.h"

uint32_t et_random_u32(uint32_t seed, uint32_t step, uint32_t stream, uint32_t index)
{
    return et_random_at(et_random_key(seed, step, stream), index);
}

float et_random_unit_f32(uint32_t seed, uint32_t step, uint32_t stream, uint32_t index)
{
    return et_random_unit_at_f32(et_random_key(seed, step, stream), index);
}
