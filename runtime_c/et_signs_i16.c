#include "et_signs_i16.h"

et_status et_unpack_signs_i16(int32_t taps, int32_t inputs, int32_t outputs, const uint8_t *signs, int16_t *w)
{
    for (int32_t o = 0; o < outputs; o++) {
        int16_t *to = w + o;
        for (int32_t t = 0; t < taps; t++) {
            for (int32_t from = 0; from < inputs; from += 8) {
                const int32_t left = inputs - from < 8 ? inputs - from : 8;
                uint32_t bits = *signs++;
                for (int32_t i = 0; i < left; i++, bits >>= 1) {
                    *to = (int16_t)((int32_t)((bits & 1u) << 1) - 1);
                    to += outputs;
                    ET_OPAQUE(to); /* else where the next byte goes is found by a product */
                }
            }
        }
    }
    return ET_OK;
}
