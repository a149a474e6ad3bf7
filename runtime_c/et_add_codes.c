/* See et_add_codes.h. */
#include "et_add_codes.h"

et_status et_add_codes_i8(size_t count, const et_add_codes *how, const int8_t *a, const int8_t *b, int8_t *y)
{
    const et_add_codes sum = *how;
    /* What both zeros add is the same for all; 2 * 255 * 2^21 plus the rounding stays below 2^31. */
    const int32_t start = -sum.a_multiplier * sum.a_zero - sum.b_multiplier * sum.b_zero;
    const int32_t almost_half = ((int32_t)1 << (sum.shift - 1)) - 1;
    for (size_t i = 0; i < count; ++i) {
        const int32_t t = start + sum.a_multiplier * a[i] + sum.b_multiplier * b[i];
        const int32_t code = ((t + almost_half + ((t >> sum.shift) & 1)) >> sum.shift) + sum.zero;
        y[i] = (int8_t)(code < sum.low ? sum.low : code > sum.high ? sum.high : code);
    }
    return ET_OK;
}
