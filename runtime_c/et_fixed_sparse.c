/* See et_fixed_sparse.h. */
#include "et_fixed_sparse.h"

#if ET_SCALAR_CORE && !ET_SMALL_CODE && defined(__GNUC__)

typedef uint32_t __attribute__((may_alias)) four_codes;

enum { WORDS_APART = 5 }; /* of the words that are looked at: odd, so that all channels have their turn */

bool et_fixed_is_sparse(ptrdiff_t outputs, ptrdiff_t count, const int8_t *g, int32_t most, int32_t all)
{
    if (outputs % 4 != 0 || (uintptr_t)g % 4 != 0)
        return false;
    const int8_t *const end = g + count;
    const ptrdiff_t words = (count / 4 + WORDS_APART - 1) / WORDS_APART;
    ptrdiff_t left = 4 * words * most / all;
    for (; g < end && left >= 0; g += 4 * WORDS_APART)
        if (*(const four_codes *)(const void *)g != 0u)
            left -= (g[0] != 0) + (g[1] != 0) + (g[2] != 0) + (g[3] != 0);
    return left >= 0;
}

/* A pixel of the output in a list: where in the image what it sees begins, and its code in the lower 8 bits. */
static inline const int8_t *seen_by(const int8_t *image, int32_t entry)
{
    return image + (entry >> 8);
}

static inline int32_t code_of(int32_t entry)
{
    return (int8_t)(entry & 0xFF);
}

#define DECLARE(i) int32_t c##i = 0;
#define ADD(i) c##i += g * x[i];
#define STORE(i)   \
    *to += c##i;   \
    to += outputs;
#define EACH_1(DO) DO(0)
#define EACH_3(DO) DO(0) DO(1) DO(2)
#define EACH_8(DO) EACH_3(DO) DO(3) DO(4) DO(5) DO(6) DO(7)
#define EACH_16(DO) EACH_8(DO) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)
/* The products of neighbouring elements of the image with a channel's gradient, over all pixels of a list. */
#define DEFINE(NAME, EACH)                                                                                              \
    static ET_NOINLINE void NAME(                                                                                       \
        const int32_t *entry, const int32_t *end, const int8_t *image, ptrdiff_t outputs, int32_t *to)                  \
    {                                                                                                                   \
        EACH(DECLARE)                                                                                                   \
        for (; entry != end; ++entry) {                                                                                 \
            const int8_t *const x = seen_by(image, *entry);                                                             \
            const int32_t g = code_of(*entry);                                                                          \
            EACH(ADD)                                                                                                   \
            ET_BARRIER();                                                                                               \
        }                                                                                                               \
        EACH(STORE)                                                                                                     \
    }
DEFINE(sums_of_1, EACH_1)
DEFINE(sums_of_3, EACH_3)
DEFINE(sums_of_8, EACH_8)
DEFINE(sums_of_16, EACH_16)

/* All taps of one channel. */
static void add_list(const et_fixed_seen *seen, const int32_t *entry, const int32_t *end, int32_t *dw)
{
    const int8_t *row = seen->image;
    if (entry == end)
        return;
    for (int32_t k = seen->kernel_h; k > 0; --k, row += seen->row)
        for (ptrdiff_t i = 0, size; i < seen->run; i += size, dw += size * seen->outputs) {
            const ptrdiff_t left = seen->run - i;
            if (left >= 16) {
                sums_of_16(entry, end, row + i, seen->outputs, dw);
                size = 16;
            } else if (left >= 8) {
                sums_of_8(entry, end, row + i, seen->outputs, dw);
                size = 8;
            } else if (left >= 3) {
                sums_of_3(entry, end, row + i, seen->outputs, dw);
                size = 3;
            } else {
                sums_of_1(entry, end, row + i, seen->outputs, dw);
                size = 1;
            }
        }
}

typedef int32_t list[ET_FIXED_LISTED];

/* The four channels that begin at g and dw. */
static void add_channels(const et_fixed_seen *seen, const int8_t *g, list *lists, int32_t *dw)
{
    int32_t *first = lists[0], *second = lists[1], *third = lists[2], *fourth = lists[3];
    int32_t room = ET_FIXED_LISTED;
    ptrdiff_t at = 0;
    for (int32_t h = seen->out_h; h > 0; --h, at += seen->next)
        for (int32_t w = seen->out_w; w > 0; --w, at += seen->step, g += seen->outputs) {
            if (*(const four_codes *)(const void *)g == 0u)
                continue;
            const int32_t place = (int32_t)(at * 256);
            const uint8_t *code = (const void *)g;
            if (code[0] != 0)
                *first++ = place + code[0];
            if (code[1] != 0)
                *second++ = place + code[1];
            if (code[2] != 0)
                *third++ = place + code[2];
            if (code[3] != 0)
                *fourth++ = place + code[3];
            if (--room > 0)
                continue;
            add_list(seen, lists[0], first, dw);
            add_list(seen, lists[1], second, dw + 1);
            add_list(seen, lists[2], third, dw + 2);
            add_list(seen, lists[3], fourth, dw + 3);
            first = lists[0];
            second = lists[1];
            third = lists[2];
            fourth = lists[3];
            room = ET_FIXED_LISTED;
        }
    add_list(seen, lists[0], first, dw);
    add_list(seen, lists[1], second, dw + 1);
    add_list(seen, lists[2], third, dw + 2);
    add_list(seen, lists[3], fourth, dw + 3);
}

void et_fixed_sparse_grad_weight(const et_fixed_seen *seen, const int8_t *g, void *lists, int32_t *dw)
{
    for (ptrdiff_t j = 0; j < seen->outputs; j += 4)
        add_channels(seen, g + j, lists, dw + j);
}

#else

bool et_fixed_is_sparse(ptrdiff_t outputs, ptrdiff_t count, const int8_t *g, int32_t most, int32_t all)
{
    (void)outputs;
    (void)count;
    (void)g;
    (void)most;
    (void)all;
    return false;
}

void et_fixed_sparse_grad_weight(const et_fixed_seen *seen, const int8_t *g, void *lists, int32_t *dw)
{
    (void)seen;
    (void)g;
    (void)lists;
    (void)dw;
}

#endif
