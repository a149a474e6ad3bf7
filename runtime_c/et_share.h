/* How a kernel shares its work among threads of a PC: every thread calls it with the same arguments and computes other
 * outputs, each of them whole, so that the bits are those of one thread. Not for callers.
 *
 * A prototype that begins with ET_SHARED promises that the kernel does so; the generated code then runs it in all
 * threads, and any other in one. Without ET_THREADS, which is what boards have, a share is the whole.
 */
#ifndef ET_SHARE_H
#define ET_SHARE_H

#include "et_threads.h"

/* first, ..., end - 1 */
typedef struct {
    ptrdiff_t first;
    ptrdiff_t end;
} et_share;

/* This thread's share of `count` things. */
static inline et_share et_share_of(ptrdiff_t count)
{
#if ET_THREADS
    const ptrdiff_t threads = et_threads_count(), index = et_threads_index();
    const et_share share = {(count * index + threads - 1) / threads, (count * (index + 1) + threads - 1) / threads};
#else
    const et_share share = {0, count};
#endif
    return share;
}

/* This thread's share of `*count` elements, of which it gives the first and in `*count` how many. Shares begin at
 * multiples of 64, so that no two threads write to one cache line, or to one byte of bits. */
static inline size_t et_share_elements(size_t *count)
{
#if ET_THREADS
    const et_share lines = et_share_of((ptrdiff_t)((*count + 63u) / 64u));
    const size_t first = 64u * (size_t)lines.first, end = 64u * (size_t)lines.end;
    *count = (end < *count ? end : *count) - (first < *count ? first : *count);
    return first;
#else
    (void)count;
    return 0;
#endif
}

/* Whether thing number `number` of `count` is in this thread's share. */
static inline bool et_share_holds(ptrdiff_t number, ptrdiff_t count)
{
#if ET_THREADS
    const et_share own = et_share_of(count);
    return number >= own.first && number < own.end;
#else
    (void)number;
    (void)count;
    return true;
#endif
}

/* Whether thing number `number` of many is this thread's, where they are dealt out one by one. */
static inline bool et_share_has(ptrdiff_t number)
{
#if ET_THREADS
    return number % et_threads_count() == et_threads_index();
#else
    (void)number;
    return true;
#endif
}

#endif
