/* The float32 functions of the numerics contract (N1, N3, N4). No libm on any path.
 *
 * Every function here is a fixed sequence of single IEEE operations, each rounded on its own: none of them uses
 * et_madd(), so its bits do not depend on ET_FMA, nor on the core. toolkit/numerics/functions.py is the same text in
 * NumPy; docs/numerics.md lists the polynomials and the errors, measured over every float32.
 *
 * For all of them: NaN in, NaN out (payload and sign are not promised). Subnormal arguments and results are exact
 * citizens. `ulp` is the distance to the true value in units of the last place of the float32 nearest to it.
 */
#ifndef ET_MATH_H
#define ET_MATH_H

#include "et_base.h"
#include "et_each.h"

#if defined(__FAST_MATH__)
#error "build without -ffast-math: the numerics contract needs IEEE operations"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "float must be evaluated as float32 (on 32 bit x86: -msse2 -mfpmath=sse)"
#endif

/* Set to 1 to take the integer forms where the core has instructions as well; the bits are the same. */
#ifndef ET_PORTABLE_MATH
#define ET_PORTABLE_MATH 0
#endif

#define ET_SIGN_BIT 0x80000000u
#define ET_INFINITY_BITS 0x7F800000u

static inline uint32_t et_bits_f32(float x)
{
    union { float value; uint32_t bits; } both;
    both.value = x;
    return both.bits;
}

static inline float et_from_bits_f32(uint32_t bits)
{
    union { uint32_t bits; float value; } both;
    both.bits = bits;
    return both.value;
}

static inline bool et_is_finite_f32(float x)
{
    return (et_bits_f32(x) & ET_INFINITY_BITS) != ET_INFINITY_BITS;
}

/* |x|, also of NaN. */
static inline float et_abs_f32(float x)
{
    return et_from_bits_f32(et_bits_f32(x) & ~ET_SIGN_BIT);
}

/* +1 where x >= 0 (both zeros), else -1; NaN compares false, so it gives -1 (N4). */
static inline float et_sign_f32(float x)
{
    return x >= 0.0f ? 1.0f : -1.0f;
}

/* The correctly rounded square root from integers: for cores without the instruction. */
float et_sqrt_portable_f32(float x);

/* The nearest integer, ties to even, from integers: for cores without float instructions. */
float et_rint_portable_f32(float x);

/* Square root, correctly rounded (0.5 ulp). sqrt(-0) = -0, x < 0 gives NaN.
 * A builtin would call sqrtf() to set errno, so the instruction is written out where a builtin may do that. */
static inline float et_sqrt_f32(float x)
{
#if ET_PORTABLE_MATH
    return et_sqrt_portable_f32(x);
#elif defined(__NO_MATH_ERRNO__) && defined(__OPTIMIZE__) \
    && (defined(__SSE__) || defined(__riscv_flen) || defined(__aarch64__))
    return __builtin_sqrtf(x);
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__AVX__)
    float root;
    __asm__("vsqrtss %1, %1, %0" : "=x"(root) : "x"(x));
    return root;
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__SSE__)
    float root;
    __asm__("sqrtss %1, %0" : "=x"(root) : "x"(x));
    return root;
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__riscv_flen)
    float root;
    __asm__("fsqrt.s %0, %1" : "=f"(root) : "f"(x));
    return root;
#elif (defined(__GNUC__) || defined(__clang__)) && defined(__aarch64__)
    float root;
    __asm__("fsqrt %s0, %s1" : "=w"(root) : "w"(x));
    return root;
#else
    return et_sqrt_portable_f32(x);
#endif
}

/* The nearest integer as a float, ties to even (N4). Keeps the sign of zero: rint(-0.3) = -0. rint(inf) = inf. */
static inline float et_rint_f32(float x)
{
#if ET_PORTABLE_MATH || defined(__riscv_float_abi_soft)
    return et_rint_portable_f32(x);
#else
    /* Above 2^23 every float is an integer; below, adding 2^23 leaves no room for a fraction. */
    const float limit = 8388608.0f;
    const uint32_t sign = et_bits_f32(x) & ET_SIGN_BIT;
    const float size = et_abs_f32(x);
    const float shifted = size + limit;
    const float rounded = shifted - limit;
    return size < limit ? et_from_bits_f32(et_bits_f32(rounded) | sign) : x;
#endif
}

/* 1 / sqrt(x): a correctly rounded root, then a correctly rounded division. At most 1.50 ulp.
 * rsqrt(+-0) = +-inf, rsqrt(inf) = 0, x < 0 gives NaN. */
static inline float et_rsqrt_f32(float x)
{
    return 1.0f / et_sqrt_f32(x);
}

/* e^x. At most 1.00 ulp; never below 0, exactly 1 at +-0. Overflows to inf from 0x1.62e430p+6 (88.72284) on,
 * is 0 below -104 (from -103.97 on the result rounds to 0), and subnormal between there and -87.34. */
float et_exp_f32(float x);

/* Natural logarithm. At most 0.87 ulp; +0 at 1, -inf at +-0, inf at inf, NaN for x < 0. */
float et_log_f32(float x);

/* Both of all elements, with the same bits, where a machine computes several numbers at a time. `values` may be x exactly. */
#if !ET_SCALAR_CORE && !defined(__riscv)
#define ET_HAS_ARRAYS 1
void et_exp_all_f32(size_t count, const float *x, float *values);
void et_log_all_f32(size_t count, const float *x, float *values);
#else
#define ET_HAS_ARRAYS 0
#endif

/* Hyperbolic tangent. At most 1.34 ulp; odd, keeps -0, within [-1, 1], exactly +-1 from |x| = 9.25 on. */
float et_tanh_f32(float x);

/* 1 / (1 + e^-x). At most 1.97 ulp; within [0, 1], 0.5 at +-0. Between neighbouring floats
 * it may fall by one ulp; exp, log and tanh never do. */
float et_sigmoid_f32(float x);

/* Error function. At most 1.35 ulp; odd, keeps -0, within [-1, 1], exactly +-1 from |x| = 3.9375 on. Between
 * neighbouring floats it may fall by one ulp. */
float et_erf_f32(float x);

/* Gives if_not when an element is infinite or NaN, else ET_OK (N8). Integer operations only.
 *   x       float32 [count]
 *   if_not  the status to report, for instance ET_NONFINITE_GRADIENT
 */
ET_CHECKED et_status et_check_finite_f32(size_t count, const float *x, et_status if_not);

#endif
