/* How kernels keep a block of accumulators in registers. Not for callers.
 *
 * A function that works on `width` elements is inlined where `width` is a constant, and the loops over those elements
 * are written out, so that small local arrays become registers: on scalar cores one each, elsewhere lanes of vectors.
 */
#ifndef ET_BLOCK_H
#define ET_BLOCK_H

#include "et_each.h" /* ET_SCALAR_CORE */

#if defined(__GNUC__) || defined(__clang__)
#define ET_INLINE static inline __attribute__((always_inline))
#else
#define ET_INLINE static inline
#endif

/* Before a loop over the elements of a block. Clang does it unasked. */
#if defined(__GNUC__) && !defined(__clang__) && ET_SCALAR_CORE
#define ET_UNROLL _Pragma("GCC unroll 32")
#else
#define ET_UNROLL
#endif

/* How many, on a core that computes one number at a time and on all others. */
#if ET_SCALAR_CORE
#define ET_BLOCK_OF(scalar, vector) (scalar)
#else
#define ET_BLOCK_OF(scalar, vector) (vector)
#endif

#endif
