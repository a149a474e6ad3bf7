/* A number of binary16 as the core computes with it: in its own registers (Zfh), or as float32. Not for callers. */
#ifndef ET_HALF_NUMBER_H
#define ET_HALF_NUMBER_H

#include "et_half.h"
#include "et_rectify.h"

#if ET_HAS_ZFH
typedef et_float16 et_number;
typedef et_float16 et_element __attribute__((may_alias)); /* as it lies in memory */
#define ET_ELEMENT_VALUE(element) (element)
static inline et_number et_number_of(float x) { return (et_number)x; }
static inline et_number et_number_madd(et_number a, et_number b, et_number s) { return __builtin_fmaf16(a, b, s); }
static inline et_number et_number_mul(et_number a, et_number b) { return a * b; }
static inline et_number et_number_add(et_number a, et_number b) { return a + b; }
static inline et_element et_element_of(et_number x) { return x; } /* NaN is the one of et_half.h: arithmetic made it */
/* The larger of x and `least`, +0 or NaN; of NaN and a number the number. */
static inline et_number et_number_at_least(et_number x, et_number least)
{
    et_number y; /* of -0 and +0 it takes +0 */
    __asm__("fmax.h %0, %1, %2" : "=f"(y) : "f"(x), "f"(least));
    return y;
}
#else
typedef float et_number;
typedef uint16_t et_element;
#define ET_ELEMENT_VALUE(element) et_from_fp16(element)
static inline et_number et_number_of(float x) { return et_from_fp16(et_to_fp16(x)); }
static inline et_number et_number_madd(et_number a, et_number b, et_number s) { return et_madd_fp16(a, b, s); }
static inline et_number et_number_mul(et_number a, et_number b) { return et_number_of(a * b); } /* exact in float32 */
static inline et_number et_number_add(et_number a, et_number b) { return et_number_of(a + b); } /* 24 bits are enough */
static inline et_element et_element_of(et_number x) { return et_to_fp16(x); }
static inline et_number et_number_at_least(et_number x, et_number least) { return least == 0.0f ? et_relu(x) : x; }
#endif

/* x where x > 0, else +0 */
static inline et_number et_number_above_0(et_number x) { return et_number_at_least(x, 0); }

#endif
