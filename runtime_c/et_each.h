/* How elementwise kernels walk over their elements. Not for callers.
 *
 * The output may be one of the inputs, so the compiler may not reorder loads and stores. In-order scalar cores would
 * wait for every result: there, four values are computed before the first is stored. Elsewhere a plain loop vectorises:
 * the output is one of the inputs or apart from all of them, never a shifted one.
 */
#ifndef ET_EACH_H
#define ET_EACH_H

#include "et_base.h"

#ifndef ET_SCALAR_CORE
#if defined(__riscv) && !defined(__riscv_vector)
#define ET_SCALAR_CORE 1
#else
#define ET_SCALAR_CORE 0
#endif
#endif

/* Before a loop whose steps read no output of another step: a vector of them may be computed at once, also where the
 * output is one of the inputs. A loop that does not suit vectors stays as it is. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed"
#define ET_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define ET_INDEPENDENT _Pragma("GCC ivdep")
#else
#define ET_INDEPENDENT
#endif

/* y[i] = VALUE(i) for i in [0, count). VALUE is a macro; y and count are evaluated more than once. */
#define ET_EACH(count, y, VALUE) ET_EACH_OF(float, count, y, VALUE)

/* The same of elements of another type. */
#if ET_SCALAR_CORE
#define ET_EACH_OF(type, count, y, VALUE)              \
    do {                                               \
        const size_t et_whole_ = (count) & ~(size_t)3; \
        size_t et_i_ = 0;                              \
        for (; et_i_ < et_whole_; et_i_ += 4) {        \
            const type et_0_ = VALUE(et_i_);           \
            const type et_1_ = VALUE(et_i_ + 1);       \
            const type et_2_ = VALUE(et_i_ + 2);       \
            const type et_3_ = VALUE(et_i_ + 3);       \
            (y)[et_i_] = et_0_;                        \
            (y)[et_i_ + 1] = et_1_;                    \
            (y)[et_i_ + 2] = et_2_;                    \
            (y)[et_i_ + 3] = et_3_;                    \
        }                                              \
        for (; et_i_ < (count); ++et_i_)               \
            (y)[et_i_] = VALUE(et_i_);                 \
    } while (0)
#else
#define ET_EACH_OF(type, count, y, VALUE)                   \
    do {                                                    \
        ET_INDEPENDENT                                      \
        for (size_t et_i_ = 0; et_i_ < (count); ++et_i_)    \
            (y)[et_i_] = VALUE(et_i_);                      \
    } while (0)
#endif

#endif
