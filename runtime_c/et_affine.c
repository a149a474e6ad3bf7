#include "et_affine.h"

#include "et_math.h"

et_status et_affine_quantize_i8(size_t count, float inverse, int32_t zero, const float *x, int8_t *y)
{
    const float low = (float)(-128 - zero), high = (float)(127 - zero);
    for (size_t i = 0; i < count; i++) {
        float t = x[i] * inverse;
        t = t > low ? t : low;
        t = t < high ? t : high;
        y[i] = (int8_t)((int32_t)et_rint_f32(t) + zero);
    }
    return ET_OK;
}
