/* Packed signs of weights as int16 codes +1 and -1.
 *
 *   signs  uint8 [outputs][taps][ceil(inputs / 8)]: bit j of byte b is that of input 8 b + j, 1 for +1 and 0 for -1
 *   w      int16 [taps][inputs][outputs]
 * They may not overlap. No scratch.
 */
#ifndef ET_SIGNS_I16_H
#define ET_SIGNS_I16_H

#include "et_base.h"

ET_CHECKED et_status et_unpack_signs_i16(int32_t taps, int32_t inputs, int32_t outputs, const uint8_t *signs,
                                         int16_t *w);

#endif
