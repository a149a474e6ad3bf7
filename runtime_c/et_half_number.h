/* A number of binary16 as the core computes with it: in its own registers (Zfh), or as float32. Not for callers. */
#ifndef ET_HALF_NUMBER_H
#define ET_HALF_NUMBER_H

#include "et_half.h"

#if ET_HAS_ZFH
typedef et_float16 et_number;
typedef et_float16 et_element __attribute__((may_alias)); /* as it lies in memory */
#define ET_ELEMENT_VALUE(element) (element)
static inline et_number et_number_of(float x) { return (et_number)x; }
static inline et_number et_number_madd(et_number a, et_number b, et_number s) { return __builtin_fmaf16(a, b, s); }
static inline et_number et_number_mul(et_number a, et_number b) { return a * b; }
static inline et_number et_number_add(et_number a, et_number b) { return a + b; }
static inline et_element et_element_of(et_number x) { return x; } /* NaN is the one of et_half.h: arithmetic made it */
#else
typedef float et_number;
typedef uint16_t et_element;
#define ET_ELEMENT_VALUE(element) et_from_fp16(element)
static inline et_number et_number_of(float x) { return et_from_fp16(et_to_fp16(x)); }
static inline et_number et_number_madd(et_number a, et_number b, et_number s) { return et_madd_fp16(a, b, s); }
static inline et_number et_number_mul(et_number a, et_number b) { return et_number_of(a * b); } /* exact in float32 */
static inline et_number et_number_add(et_number a, et_number b) { return et_number_of(a + b); } /* 24 bits are enough */
static inline et_element et_element_of(et_number x) { return et_to_fp16(x); }
#endif

#endif
