/* See et_nearest_power.h. */
#include "et_nearest_power.h"

#include "et_math.h"

#define LOWEST 7.450580596923828125e-9f /* 2^-27 */
#define HIGHEST_BITS 0x7F000000u        /* of 2^127 */
/* Added to the bits, it carries into the exponent for every fraction above that of sqrt(2), 0x3504F3 cut off. */
#define UP (0x00800000u - 0x003504F4u)

static float nearest(float x)
{
    const uint32_t bits = (et_bits_f32(x >= LOWEST ? x : LOWEST) + UP) & 0xFF800000u;
    return et_from_bits_f32(bits < HIGHEST_BITS ? bits : HIGHEST_BITS);
}

et_status et_nearest_power_of_two_f32(size_t count, const float *x, float *y)
{
    if (x == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t i = 0; i < count; ++i)
        y[i] = nearest(x[i]);
    return ET_OK;
}

et_status et_nearest_power_of_two_grad_f32(size_t count, const float *dy, const float *x, float *dx)
{
    if (dy == NULL || x == NULL || dx == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t i = 0; i < count; ++i) {
        const float slope = nearest(x[i]) / x[i];
        dx[i] = x[i] >= LOWEST ? dy[i] * slope : 0.0f;
    }
    return ET_OK;
}
