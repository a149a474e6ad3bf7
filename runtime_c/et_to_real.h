/* Integers as float32, rounded to even where they have more than 24 bits. */
#ifndef ET_TO_REAL_H
#define ET_TO_REAL_H

#include "et_base.h"

/* y[i] = x[i]. y may not overlap x. */
ET_CHECKED et_status et_to_real_i16(size_t count, const int16_t *x, float *y);

/* y[i] = x[i]. y may not overlap x. */
ET_CHECKED et_status et_to_real_i32(size_t count, const int32_t *x, float *y);

#endif
