/* See et_range_mask.h. */
#include "et_range_mask.h"

et_status et_range_mask_f32(size_t count, float minimum, float maximum, const float *x, uint8_t *mask)
{
    for (size_t i = 0; i < count;) {
        const size_t end = count - i < 8u ? count : i + 8u;
        uint32_t byte = 0;
        for (uint32_t bit = 1u; i < end; ++i, bit <<= 1)
            byte |= x[i] >= minimum && x[i] <= maximum ? bit : 0u;
        *mask++ = (uint8_t)byte;
    }
    return ET_OK;
}
