/* See et_stream_i16.h. */
#include "et_stream_i16.h"

#include "et_math.h"
#include "et_stream_b1.h"
#include "et_ones.h"

static inline int32_t scaled(int32_t sum, int32_t factor, uint32_t right, uint32_t half)
{
    return (int32_t)((uint32_t)sum * (uint32_t)factor + half) >> right;
}

#define ET_SCALED(sum, factor, right, half) scaled(sum, factor, right, half)
#define ET_BLOCK et_block_i16
#define ET_PROJECTION et_projection_i16
#include "et_stream_block.inc"

et_status et_stream_from_real_i16(size_t count, float scale, int32_t largest, const float *x, int16_t *codes)
{
    if (x == NULL || codes == NULL)
        return ET_BAD_ARGUMENT;
    const float most = (float)largest;
    for (size_t i = 0; i < count; ++i) {
        const float real = x[i] * scale;
        const float low = real > -most ? real : -most, near = low < most ? low : most;
        codes[i] = real == real ? (int16_t)et_rint_f32(near) : 0;
    }
    return ET_OK;
}

et_status et_real_from_stream_i16(size_t count, float scale, const int16_t *codes, float *x)
{
    if (x == NULL || codes == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t i = 0; i < count; ++i) {
        const float real = (float)codes[i];
        x[i] = real * scale;
    }
    return ET_OK;
}
