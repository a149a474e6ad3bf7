/* See et_to_real.h. */
#include "et_to_real.h"

et_status et_to_real_i16(size_t count, const int16_t *x, float *y)
{
    if (x == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t i = 0; i < count; ++i)
        y[i] = (float)x[i];
    return ET_OK;
}

et_status et_to_real_i32(size_t count, const int32_t *x, float *y)
{
    if (x == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    for (size_t i = 0; i < count; ++i)
        y[i] = (float)x[i];
    return ET_OK;
}
