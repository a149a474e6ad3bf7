/* The sum of two tensors of int8 codes, in integers alone. */
#ifndef ET_ADD_CODES_H
#define ET_ADD_CODES_H

#include "et_base.h"

/* Zeros are int8; multipliers 0 ... 2^21; shift 1 ... 30; -128 <= low <= high <= 127. */
typedef struct {
    int32_t a_zero;
    int32_t a_multiplier;
    int32_t b_zero;
    int32_t b_multiplier;
    int32_t shift;
    int32_t zero;
    int32_t low;
    int32_t high;
} et_add_codes;

/* y = clamp(zero + rint((a_multiplier * (a - a_zero) + b_multiplier * (b - b_zero)) / 2^shift), low, high), ties to even.
 *   a, b, y  int8 [count]; y may be a or b exactly
 */
ET_CHECKED et_status et_add_codes_i8(
    size_t count, const et_add_codes *how, const int8_t *a, const int8_t *b, int8_t *y);

#endif
