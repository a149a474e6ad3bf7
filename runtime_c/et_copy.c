#include "et_copy.h"

et_status et_copy_f32(int32_t count, const float *x, float *y)
{
    for (int32_t i = 0; i < count; i++)
        y[i] = x[i];
    return ET_OK;
}

et_status et_copy_bytes(size_t count, const void *x, void *y)
{
    const unsigned char *from = x;
    unsigned char *to = y;
    for (size_t i = 0; i < count; i++)
        to[i] = from[i];
    return ET_OK;
}

et_status et_zero_bytes(size_t count, void *y)
{
    unsigned char *to = y;
    for (size_t i = 0; i < count; i++)
        to[i] = 0;
    return ET_OK;
}

et_status et_permute_f32(int32_t count, const int32_t *order, const float *x, float *y)
{
    for (int32_t i = 0; i < count; i++)
        y[i] = x[order[i]];
    return ET_OK;
}
