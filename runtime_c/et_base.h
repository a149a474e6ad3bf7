/* What every runtime file shares: status codes, the one multiply-add, and a few compiler facts.
 *
 * Numerics N1: IEEE binary32, round to nearest even, subnormals kept. Compile with -ffp-contract=off and without
 * -ffast-math; a fused multiply-add happens exactly where et_madd() is written, and nowhere else.
 */
#ifndef ET_BASE_H
#define ET_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Generated for each model: ET_FMA, 1 when et_madd() rounds once, 0 when it rounds twice. */
#include "et_config.h"

/* Likewise, where the code is to be small: kernels keep fewer forms of their inner loops, with the same bits. */
#if !defined(ET_SMALL_CODE)
#define ET_SMALL_CODE 0
#endif

/* Likewise, where shapes of the model have enough work for it: forms of inner loops that others do not need, with the
 * same bits.
 *   ET_FORM_CODES              convolutions of integer codes with few outputs in each group
 *   ET_FORM_CODES_FLAT         pointwise convolutions of integer codes with stride 1
 *   ET_FORM_CODES_NARROW       convolutions of integer codes to a number of channels that leaves 2 or 3 of four
 *   ET_FORM_CODES_SLIDE        convolutions 3x3 of int8 codes to codes with one channel in each group
 *   ET_FORM_DEPTHWISE          depthwise kernels other than 3x3 of stride 1, and gradients of their inputs
 *   ET_FORM_DEPTHWISE_ROLLS    their weights' gradients with ET_FORM_DEPTHWISE_WEIGHTS: stride along a row as dilation
 *   ET_FORM_DEPTHWISE_STRIDES  the same: stride along a row twice the dilation
 *   ET_FORM_DEPTHWISE_WEIGHTS  gradients of their weights: several taps of a kernel row at a time
 *   ET_FORM_DOT                dense layers of one output
 *   ET_FORM_GROUPED            grouped convolutions of fewer than 16 channels a group: tiles go on from group to group;
 *                              has both forms of narrow convolutions too
 *   ET_FORM_NARROW             convolutions to a number of channels that is no multiple of four
 *   ET_FORM_NARROW_GRADIENT    gradients of inputs where the channels of the input are no multiple of four, or those of
 *                              the output none of 16
 *   ET_FORM_STILL              gradients of inputs where few output channels meet few inputs: weights stay in registers
 *   ET_FORM_TAPS               gradients of weights with one or two input channels a group and outputs that are no
 *                              multiple of eight: several taps at a time
 *   ET_FORM_TEN                gradients of weights of dense layers of ten outputs
 *   ET_FORM_HALF_SLIDES        with Zfh: depthwise convolutions of binary16, 3x3 of stride 1
 *   ET_FORM_HALF_THREE         with Zfh: gradients of weights of binary16 with three input channels left over
 *   ET_FORM_HALF_TILES         with Zfh: convolutions of binary16, sixteen inputs at a time
 *   ET_FORM_HALF_TRIPLES       with Zfh: gradients of depthwise weights of binary16, kernels 3 wide of stride 1
 * and, in small code too, what the kernels with these names need:
 *   ET_FORM_RECTIFY            layers that end with a ReLU
 *   ET_FORM_CEILING            with one that has a ceiling, such as ReLU6
 *   ET_FORM_ADDEND             convolutions that end with the addition of a tensor
 *   ET_FORM_ADDEND_NARROW      with one whose channels (of a group) are no multiple of 16
 *   ET_FORM_GATE               gradients of inputs that end with that of a ReLU
 */
#if !defined(ET_FORM_RECTIFY)
#define ET_FORM_RECTIFY 0
#endif
#if !defined(ET_FORM_CEILING)
#define ET_FORM_CEILING 0
#endif
#if !defined(ET_FORM_ADDEND)
#define ET_FORM_ADDEND 0
#endif
#if !defined(ET_FORM_ADDEND_NARROW)
#define ET_FORM_ADDEND_NARROW 0
#endif
#if !defined(ET_FORM_GATE)
#define ET_FORM_GATE 0
#endif
#if !defined(ET_FORM_CODES) || ET_SMALL_CODE
#undef ET_FORM_CODES
#define ET_FORM_CODES 0
#endif
#if !defined(ET_FORM_CODES_FLAT) || ET_SMALL_CODE
#undef ET_FORM_CODES_FLAT
#define ET_FORM_CODES_FLAT 0
#endif
#if !defined(ET_FORM_CODES_NARROW) || ET_SMALL_CODE
#undef ET_FORM_CODES_NARROW
#define ET_FORM_CODES_NARROW 0
#endif
#if !defined(ET_FORM_CODES_SLIDE) || ET_SMALL_CODE
#undef ET_FORM_CODES_SLIDE
#define ET_FORM_CODES_SLIDE 0
#endif
#if !defined(ET_FORM_DEPTHWISE) || ET_SMALL_CODE
#undef ET_FORM_DEPTHWISE
#define ET_FORM_DEPTHWISE 0
#endif
#if !defined(ET_FORM_DEPTHWISE_ROLLS) || ET_SMALL_CODE
#undef ET_FORM_DEPTHWISE_ROLLS
#define ET_FORM_DEPTHWISE_ROLLS 0
#endif
#if !defined(ET_FORM_DEPTHWISE_STRIDES) || ET_SMALL_CODE
#undef ET_FORM_DEPTHWISE_STRIDES
#define ET_FORM_DEPTHWISE_STRIDES 0
#endif
#if !defined(ET_FORM_DEPTHWISE_WEIGHTS) || ET_SMALL_CODE
#undef ET_FORM_DEPTHWISE_WEIGHTS
#define ET_FORM_DEPTHWISE_WEIGHTS 0
#endif
#if !defined(ET_FORM_DOT) || ET_SMALL_CODE
#undef ET_FORM_DOT
#define ET_FORM_DOT 0
#endif
#if !defined(ET_FORM_GROUPED) || ET_SMALL_CODE
#undef ET_FORM_GROUPED
#define ET_FORM_GROUPED 0
#endif
#if ET_FORM_GROUPED
#undef ET_FORM_NARROW
#define ET_FORM_NARROW 1
#undef ET_FORM_NARROW_GRADIENT
#define ET_FORM_NARROW_GRADIENT 1
#endif
#if !defined(ET_FORM_HALF_SLIDES) || ET_SMALL_CODE
#undef ET_FORM_HALF_SLIDES
#define ET_FORM_HALF_SLIDES 0
#endif
#if !defined(ET_FORM_HALF_THREE) || ET_SMALL_CODE
#undef ET_FORM_HALF_THREE
#define ET_FORM_HALF_THREE 0
#endif
#if !defined(ET_FORM_HALF_TILES) || ET_SMALL_CODE
#undef ET_FORM_HALF_TILES
#define ET_FORM_HALF_TILES 0
#endif
#if !defined(ET_FORM_HALF_TRIPLES) || ET_SMALL_CODE
#undef ET_FORM_HALF_TRIPLES
#define ET_FORM_HALF_TRIPLES 0
#endif
#if !defined(ET_FORM_NARROW) || ET_SMALL_CODE
#undef ET_FORM_NARROW
#define ET_FORM_NARROW 0
#endif
#if !defined(ET_FORM_NARROW_GRADIENT) || ET_SMALL_CODE
#undef ET_FORM_NARROW_GRADIENT
#define ET_FORM_NARROW_GRADIENT 0
#endif
#if !defined(ET_FORM_STILL) || ET_SMALL_CODE
#undef ET_FORM_STILL
#define ET_FORM_STILL 0
#endif
#if !defined(ET_FORM_TAPS) || ET_SMALL_CODE
#undef ET_FORM_TAPS
#define ET_FORM_TAPS 0
#endif
#if !defined(ET_FORM_TEN) || ET_SMALL_CODE
#undef ET_FORM_TEN
#define ET_FORM_TEN 0
#endif

/* Whether sums over a batch can go on from part to part of it. Only programs that walk over their batch have it. */
#if !defined(ET_WALK)
#define ET_WALK 0
#endif

#if !defined(ET_FMA)
#error "et_config.h must define ET_FMA as 0 or 1"
#endif

typedef enum {
    ET_OK = 0,
    ET_BAD_ARGUMENT = 1,       /* a pointer is NULL, or a count is out of range */
    ET_BAD_LABEL = 2,          /* a class index is negative or too large */
    ET_NONFINITE_LOSS = 3,     /* no weight was changed */
    ET_NONFINITE_GRADIENT = 4, /* what it would have updated is as it was, and no later update was made */
    ET_NOT_TRAINABLE = 5,      /* the model was compiled for inference only */
    ET_FLASH_FAILED = 6,       /* the flash reports a failure, or does not hold what was written */
    ET_NO_STATE = 7,           /* the flash holds no complete state of this model */
    ET_NO_FLASH = 8            /* the board has no driver for a flash: see et_store.h */
} et_status;

#if defined(__GNUC__) || defined(__clang__)
#define ET_CHECKED __attribute__((warn_unused_result))
#define ET_NOINLINE __attribute__((noinline))
#define ET_UNUSED __attribute__((unused))
#define ET_FALLTHROUGH __attribute__((fallthrough));
/* A definition that gives way to another one of the same function. */
#define ET_WEAK __attribute__((weak))
/* No instruction: stops the compiler from hoisting loads over a reduction step, which makes small cores spill. */
#define ET_BARRIER() __asm__ volatile("" ::: "memory")
/* No instruction: a value of which the compiler then knows nothing. Else it finds products in shifts and in the ends of
 * loops, and lets a counter go along with a pointer. */
#define ET_OPAQUE(value) __asm__("" : "+r"(value))
/* The same, and it is computed before what follows, not where it is used. */
#define ET_SETTLED(value) __asm__ volatile("" : "+r"(value))
/* The same for a float, on cores that have few registers for them. */
#if defined(__riscv_flen)
#define ET_SETTLED_FLOAT(value) __asm__ volatile("" : "+f"(value))
#else
#define ET_SETTLED_FLOAT(value) ((void)(value))
#endif
#else
#define ET_CHECKED
#define ET_NOINLINE
#define ET_UNUSED
#define ET_FALLTHROUGH
#define ET_WEAK
#define ET_BARRIER() ((void)0)
#define ET_OPAQUE(value) ((void)(value))
#define ET_SETTLED(value) ((void)(value))
#define ET_SETTLED_FLOAT(value) ((void)(value))
#endif

#define ET_RESTRICT restrict

/* Before the prototype of a kernel that shares its work among threads, as et_share.h says. */
#define ET_SHARED

#define ET_INFINITY (__builtin_inff())
#define ET_NAN (__builtin_nanf(""))

/* Hands on the first status that is not ET_OK. */
#define ET_TRY(call)                        \
    do {                                    \
        const et_status et_try_ = (call);   \
        if (et_try_ != ET_OK)               \
            return et_try_;                 \
    } while (0)

/* A core with a fused multiply-add instruction for float32. */
#if defined(__FP_FAST_FMAF) || defined(__FMA__) || defined(__riscv_flen) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__)
#define ET_HAS_FMA 1
#else
#define ET_HAS_FMA 0
#endif

/* a * b + c rounded once, computed from integers and doubles: for a Program made for a core with the instruction, run
 * on a machine without. Defined in et_math.c. */
float et_fma_exact(float a, float b, float c);

/* The one multiply-add of the numerics contract (N1): a * b + c, rounded once if ET_FMA, else after each operation. */
static inline float et_madd(float a, float b, float c)
{
#if ET_FMA && ET_HAS_FMA
    return __builtin_fmaf(a, b, c);
#elif ET_FMA
    return et_fma_exact(a, b, c);
#else
    const float product = a * b;
    return product + c;
#endif
}

#endif
