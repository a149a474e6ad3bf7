/* Ones of bit planes under filters, and planes of codes. Not for callers.
 *
 * Some words of one or two planes are held in registers, while all filters pass by. Nothing is multiplied, and no word is read from an address that is not a multiple of 4.
 */
#ifndef ET_COUNT_PLANES_H
#define ET_COUNT_PLANES_H

#include "et_block.h"
#include "et_ones.h"
#include "et_turn_signs.h"

#if defined(__GNUC__) || defined(__clang__)
typedef uint32_t __attribute__((may_alias)) et_plane_word;
typedef uint16_t __attribute__((may_alias)) et_plane_half;
#else
#error "reading bytes as words needs an attribute for types that alias others"
#endif

enum {
    ET_PLANE_CODES = 32, /* whose bits fill a word */
    ET_PLANE_WORDS = 8   /* held at once, at most */
};

/* Exchanges the bits of `mask` with those `places` above. */
ET_INLINE uint32_t et_exchange_bits(uint32_t word, int32_t places, uint32_t mask)
{
    const uint32_t change = ((word >> places) ^ word) & mask;
    return word ^ change ^ (change << places);
}

/* Planes `shift` and `shift` + 1 of 32 codes; those of codes that have no others with -1. Words of four codes are merged so that bit 16 i1 + 8 i0 + 4 i2 + 2 i4 + i3
 * is that of code 16 i4 + 8 i3 + 4 i2 + 2 i1 + i0; two exchanges put it where it belongs. */
ET_INLINE void et_planes_of_codes(const et_plane_word *codes, int32_t shift, uint32_t planes[2])
{
    const uint32_t pairs = 0x03030303u, even = 0x55555555u;
#define CODES(i) (shift < 0 ? codes[i] : (codes[i] >> shift) & pairs)
    const uint32_t first = CODES(0) | (CODES(4) << 2) | (CODES(1) << 4) | (CODES(5) << 6);
    const uint32_t second = CODES(2) | (CODES(6) << 2) | (CODES(3) << 4) | (CODES(7) << 6);
#undef CODES
    uint32_t low = (first & even) | ((second & even) << 1), high = ((first >> 1) & even) | (second & ~even);
    low = et_exchange_bits(et_exchange_bits(low, 14, 0x0000CCCCu), 7, 0x00AA00AAu);
    high = et_exchange_bits(et_exchange_bits(high, 14, 0x0000CCCCu), 7, 0x00AA00AAu);
    planes[0] = low;
    planes[1] = high;
}

/* One or two planes, and the filters that pass by. */
typedef struct {
    const uint32_t *low;
    const uint32_t *high;         /* counts twice; where there are two planes */
    const et_plane_word *filter;
    int32_t step;                 /* words from filter to filter */
    int32_t count;                /* filters */
    int32_t power;                /* bit of a code that `low` has */
    int32_t *sums;
    int32_t sums_step;
} et_plane_pass;

#if ET_HAS_COUNT

/* Ones of some words without a filter, and twice those of the second plane where there are two. */
ET_INLINE uint32_t et_count_all(bool two, int32_t words, const uint32_t *low, const uint32_t *high)
{
    uint32_t ones = 0;
    ET_UNROLL
    for (int32_t i = 0; i < words; i++)
        ones += et_ones_b1(low[i]) + (two ? et_ones_b1(high[i]) << 1 : 0);
    return ones;
}

/* Ones of some words, and twice those of the second plane where there are two. */
ET_INLINE uint32_t et_count_words(bool two, int32_t words, const uint32_t *low, const uint32_t *high,
                                  const et_plane_word *filter)
{
    uint32_t ones = 0, twos = 0;
    ET_UNROLL
    for (int32_t i = 0; i < words; i++) {
        const uint32_t word = filter[i];
        ones += et_ones_b1(low[i] & word);
        if (two)
            twos += et_ones_b1(high[i] & word);
    }
    return ones + (twos << 1);
}

#else

/* Ones of some words without a filter, and twice those of the second plane where there are two. */
static ET_NOINLINE uint32_t et_count_all(bool two, int32_t words, const uint32_t *low, const uint32_t *high)
{
    uint32_t ones = 0;
    for (const uint32_t *const end = low + words; low != end; low++, high++) {
        const uint32_t twos = two ? et_ones_of_bytes_b1(*high) << 1 : 0;
        ones += et_wide_sum_of_bytes_b1(et_ones_of_bytes_b1(*low) + twos);
    }
    return ones;
}

/* Adds two words to `sum`, bit by bit; gives what is carried. */
ET_INLINE uint32_t et_full_add(uint32_t *sum, uint32_t a, uint32_t b)
{
    const uint32_t unequal = *sum ^ a, carry = (*sum & a) | (unequal & b);
    *sum = unequal ^ b;
    return carry;
}

/* Two words of each plane: what is carried of `low`, and in the second place of `high`. */
ET_INLINE void et_keep_two(bool two, const uint32_t *low, const uint32_t *high, const et_plane_word *filter,
                           uint32_t kept[3], uint32_t carried[2])
{
    const uint32_t first = filter[0], second = filter[1];
    carried[0] = et_full_add(&kept[0], low[0] & first, low[1] & second);
    carried[1] = two ? et_full_add(&kept[1], high[0] & first, high[1] & second) : 0;
    ET_BARRIER(); /* else more is loaded first than there are registers */
}

/* Eight words: ones, twos and fours stay in `kept`; gives eights, byte by byte, at most 24 each. */
ET_INLINE uint32_t et_keep_eight(bool two, const uint32_t *low, const uint32_t *high, const et_plane_word *filter,
                                 uint32_t kept[3])
{
    uint32_t a[2], b[2];
    et_keep_two(two, low, high, filter, kept, a);
    et_keep_two(two, low + 2, high + 2, filter + 2, kept, b);
    const uint32_t first = two ? et_full_add(&kept[2], a[1], b[1]) : 0, fours = et_full_add(&kept[1], a[0], b[0]);
    et_keep_two(two, low + 4, high + 4, filter + 4, kept, a);
    et_keep_two(two, low + 6, high + 6, filter + 6, kept, b);
    const uint32_t second = et_full_add(&kept[2], fours, et_full_add(&kept[1], a[0], b[0]));
    return two ? et_ones_of_three_b1(first, second, et_full_add(&kept[2], a[1], b[1])) : et_ones_of_bytes_b1(second);
}

/* Ones of eight words or a multiple of it, and twice those of the second plane where there are two. */
ET_INLINE uint32_t et_count_eights(bool two, int32_t words, const uint32_t *low, const uint32_t *high,
                                   const et_plane_word *filter)
{
    uint32_t kept[3] = {0, 0, 0}, eights = 0;
    while (words > 0) { /* ten times fill a byte */
        const uint32_t *const end = low + (words < 80 ? words : 80);
        uint32_t bytes = 0;
        for (; low != end; low += 8, high += 8, filter += 8)
            bytes += et_keep_eight(two, low, high, filter, kept);
        eights += et_wide_sum_of_bytes_b1(bytes);
        words -= 80;
    }
    const uint32_t bytes = et_ones_of_bytes_b1(kept[0]) + (et_ones_of_bytes_b1(kept[1]) << 1);
    return et_wide_sum_of_bytes_b1(bytes + (et_ones_of_bytes_b1(kept[2]) << 2)) + (eights << 3);
}

/* The same of one, three or five words. */
ET_INLINE uint32_t et_count_words(bool two, int32_t words, const uint32_t *low, const uint32_t *high,
                                  const et_plane_word *filter)
{
#define ALL(plane)                                                                                               \
    (words == 5   ? et_ones_of_five_b1(plane[0] & filter[0], plane[1] & filter[1], plane[2] & filter[2],         \
                                       plane[3] & filter[3], plane[4] & filter[4])                               \
     : words == 3 ? et_ones_of_three_b1(plane[0] & filter[0], plane[1] & filter[1], plane[2] & filter[2])        \
                  : et_ones_of_bytes_b1(plane[0] & filter[0]))
    return et_wide_sum_of_bytes_b1(two ? ALL(low) + (ALL(high) << 1) : ALL(low));
#undef ALL
}

#endif

/* Adds what a filter gives to its sum: twice the ones under it, less all there are. The pointers move on to the next. */
ET_INLINE void et_next_filter(uint32_t ones, uint32_t all, const et_plane_pass *pass, const et_plane_word **filter,
                              int32_t **sums)
{
    **sums += (int32_t)(((ones << 1) - all) << pass->power);
    *sums += pass->sums_step;
    *filter += pass->step;
    ET_OPAQUE(*filter);
    ET_OPAQUE(*sums);
}

/* Lets all filters pass by `words` words, known when compiling. */
ET_INLINE void et_pass_filters(bool two, int32_t words, const et_plane_pass *from)
{
    const et_plane_pass pass = *from;
    const et_plane_word *filter = pass.filter;
    int32_t *sums = pass.sums;
    const uint32_t all = et_count_all(two, words, pass.low, pass.high);
    uint32_t low[ET_PLANE_WORDS], high[ET_PLANE_WORDS];
    ET_UNROLL
    for (int32_t i = 0; i < words; i++) {
        low[i] = pass.low[i];
        high[i] = two ? pass.high[i] : 0;
    }
    for (int32_t left = pass.count; left > 0; left--)
        et_next_filter(et_count_words(two, words, low, high, filter), all, &pass, &filter, &sums);
}

#if !ET_HAS_COUNT
/* Lets all filters pass by eight words or a multiple of it. */
ET_INLINE void et_pass_long_filters(bool two, int32_t words, const et_plane_pass *from)
{
    const et_plane_pass pass = *from;
    const et_plane_word *filter = pass.filter;
    int32_t *sums = pass.sums;
    const uint32_t all = et_count_all(two, words, pass.low, pass.high);
    for (int32_t left = pass.count; left > 0; left--)
        et_next_filter(et_count_eights(two, words, pass.low, pass.high, filter), all, &pass, &filter, &sums);
}
#endif

#endif
