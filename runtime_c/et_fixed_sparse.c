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
static inline ptrdiff_t place_of(int32_t entry)
{
    return entry >> 8;
}

static inline int32_t code_of(int32_t entry)
{
    return (int8_t)(entry & 0xFF);
}

static inline uint32_t word_of(int32_t value)
{
    return (uint32_t)value;
}

/* Adds the two sums of a word to those of two channels; gives where the next pair's are. */
static inline int32_t *take_apart(uint32_t sums, ptrdiff_t outputs, int32_t *to)
{
    const int32_t low = (int16_t)(sums & 0xFFFFu);
    *to += low;
    to += outputs;
    *to += (int32_t)(sums - (uint32_t)low) >> 16;
    return to + outputs;
}

#define DECLARE(i) uint32_t c##i = 0;
#define ADD(i) c##i += g * word_of(x[i]);
#define ADD_PAIR(i) c##i += g * x[i];
#define STORE(i)          \
    *to += (int32_t)c##i; \
    to += outputs;
#define STORE_PAIR(i) to = take_apart(c##i, outputs, to);
#define EACH_1(DO) DO(0)
#define EACH_3(DO) DO(0) DO(1) DO(2)
#define EACH_4(DO) EACH_3(DO) DO(3)
#define EACH_8(DO) EACH_4(DO) DO(4) DO(5) DO(6) DO(7)
#define EACH_12(DO) EACH_8(DO) DO(8) DO(9) DO(10) DO(11)
#define EACH_16(DO) EACH_12(DO) DO(12) DO(13) DO(14) DO(15)
/* The products of neighbouring elements of the image with a channel's gradient, over all pixels of a list. */
#define DEFINE(NAME, TYPE, EACH, NEXT, LAST)                                                                            \
    static ET_NOINLINE void NAME(                                                                                       \
        const int32_t *entry, const int32_t *end, const void *image, ptrdiff_t first, ptrdiff_t outputs, int32_t *to)   \
    {                                                                                                                   \
        const TYPE *const from = (const TYPE *)image + first;                                                           \
        EACH(DECLARE)                                                                                                   \
        for (; entry != end; ++entry) {                                                                                 \
            const TYPE *const x = from + place_of(*entry);                                                              \
            const uint32_t g = word_of(code_of(*entry));                                                                 \
            EACH(NEXT)                                                                                                  \
            ET_BARRIER();                                                                                               \
        }                                                                                                               \
        EACH(LAST)                                                                                                      \
    }
DEFINE(sums_of_1, int8_t, EACH_1, ADD, STORE)
DEFINE(sums_of_3, int8_t, EACH_3, ADD, STORE)
DEFINE(sums_of_8, int8_t, EACH_8, ADD, STORE)
DEFINE(sums_of_16, int8_t, EACH_16, ADD, STORE)
DEFINE(pairs_of_1, uint32_t, EACH_1, ADD_PAIR, STORE_PAIR)
DEFINE(pairs_of_4, uint32_t, EACH_4, ADD_PAIR, STORE_PAIR)
DEFINE(pairs_of_12, uint32_t, EACH_12, ADD_PAIR, STORE_PAIR)

#define ADD_ROWS(i)                   \
    c##i##0 += g * word_of(x[i]);     \
    c##i##1 += g * word_of(second[i]); \
    c##i##2 += g * word_of(third[i]);
#define DECLARE_ROWS(i) uint32_t c##i##0 = 0, c##i##1 = 0, c##i##2 = 0;
#define STORE_ROWS(i)                      \
    to[i * outputs] += (int32_t)c##i##0;   \
    to[(3 + i) * outputs] += (int32_t)c##i##1; \
    to[(6 + i) * outputs] += (int32_t)c##i##2;
/* The same for three rows of three elements: a 3 x 3 kernel on images of one channel. */
static ET_NOINLINE void sums_of_3x3(
    const int32_t *entry, const int32_t *end, const int8_t *image, ptrdiff_t row, ptrdiff_t outputs, int32_t *to)
{
    EACH_3(DECLARE_ROWS)
    for (; entry != end; ++entry) {
        const int8_t *const x = image + place_of(*entry), *const second = x + row, *const third = second + row;
        const uint32_t g = word_of(code_of(*entry));
        EACH_3(ADD_ROWS)
        ET_BARRIER();
    }
    EACH_3(STORE_ROWS)
}

typedef struct {
    ptrdiff_t size;
    void (*add)(const int32_t *, const int32_t *, const void *, ptrdiff_t, ptrdiff_t, int32_t *);
} block;

static const block blocks[] = {{16, sums_of_16}, {8, sums_of_8}, {3, sums_of_3}, {1, sums_of_1}};
static const block blocks_of_pairs[] = {{12, pairs_of_12}, {4, pairs_of_4}, {1, pairs_of_1}};

/* All taps of one channel. */
static void add_list(const et_fixed_seen *seen, const int32_t *entry, const int32_t *end, int32_t *dw)
{
    const ptrdiff_t step = seen->pairs ? 2 * seen->outputs : seen->outputs;
    ptrdiff_t row = 0;
    if (entry == end)
        return;
    if (!seen->pairs && seen->kernel_h == 3 && seen->run == 3) {
        sums_of_3x3(entry, end, seen->image, seen->row, seen->outputs, dw);
        return;
    }
    for (int32_t k = seen->kernel_h; k > 0; --k, row += seen->row) {
        const block *use = seen->pairs ? blocks_of_pairs : blocks;
        for (ptrdiff_t i = 0; i < seen->run; i += use->size, dw += use->size * step) {
            while (use->size > seen->run - i)
                ++use;
            use->add(entry, end, seen->image, row + i, seen->outputs, dw);
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
