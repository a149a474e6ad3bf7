/* Ones in words, without a multiplication where there is no instruction for it. Not for callers. */
#ifndef ET_ONES_H
#define ET_ONES_H

#include "et_base.h"

#if defined(__riscv_zbb) || defined(__POPCNT__) || defined(__aarch64__)
#define ET_HAS_COUNT 1
#else
#define ET_HAS_COUNT 0
#endif

#if defined(__riscv) && !defined(__riscv_mul)
#define ET_HAS_MULTIPLY 0
#else
#define ET_HAS_MULTIPLY 1
#endif

/* Hides where a count or a pointer comes from, so that no compiler turns what it adds up into a product. */
#if ET_HAS_MULTIPLY
#define ET_HIDE(value) ((void)0)
#else
#define ET_HIDE(value) __asm__("" : "+r"(value))
#endif

#define ET_ONES_GROUP 5 /* words that full adders merge */

/* Sum of the four bytes of a word, which is below 256. */
static inline uint32_t et_sum_of_bytes_b1(uint32_t bytes)
{
#if ET_HAS_MULTIPLY
    uint32_t sums = 0x01010101u;
    ET_OPAQUE(sums); /* else gcc adds shifted words, which takes four instructions */
    return (bytes * sums) >> 24;
#else
    bytes += bytes >> 8;
    return (bytes + (bytes >> 16)) & 0xffu;
#endif
}

/* Sum of the four bytes of a word. */
static inline uint32_t et_wide_sum_of_bytes_b1(uint32_t bytes)
{
    bytes = (bytes & 0x00ff00ffu) + ((bytes >> 8) & 0x00ff00ffu);
    return (bytes + (bytes >> 16)) & 0xffffu;
}

/* Ones of each byte of a word. */
static inline uint32_t et_ones_of_bytes_b1(uint32_t word)
{
    word -= (word >> 1) & 0x55555555u;
    word = (word & 0x33333333u) + ((word >> 2) & 0x33333333u);
    return (word + (word >> 4)) & 0x0f0f0f0fu;
}

/* Ones of a word. */
static inline uint32_t et_ones_b1(uint32_t word)
{
#if ET_HAS_COUNT
    return (uint32_t)__builtin_popcount(word);
#else
    return et_sum_of_bytes_b1(et_ones_of_bytes_b1(word));
#endif
}

/* Ones of five words, byte by byte: two full adders leave one word of weight 1 and two of weight 2. */
static inline uint32_t et_ones_of_five_b1(uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e)
{
    const uint32_t pairs = 0x55555555u, nibbles = 0x33333333u, bytes = 0x0f0f0f0fu;
    const uint32_t ab = a ^ b, abc = ab ^ c, abcd = abc ^ d;
    uint32_t first = (a & b) | (ab & c), second = (abc & d) | (abcd & e), single = abcd ^ e;
    single -= (single >> 1) & pairs;
    first -= (first >> 1) & pairs;
    second -= (second >> 1) & pairs;
    single = (single & nibbles) + ((single >> 2) & nibbles);
    first = (first & nibbles) + ((first >> 2) & nibbles) + (second & nibbles) + ((second >> 2) & nibbles);
    single = (single + (single >> 4)) & bytes;
    first = (first & bytes) + ((first >> 4) & bytes);
    return single + first + first;
}

/* Ones of three words, byte by byte. */
static inline uint32_t et_ones_of_three_b1(uint32_t a, uint32_t b, uint32_t c)
{
    const uint32_t pairs = 0x55555555u, nibbles = 0x33333333u, bytes = 0x0f0f0f0fu;
    const uint32_t ab = a ^ b;
    uint32_t twice = (a & b) | (ab & c), single = ab ^ c;
    single -= (single >> 1) & pairs;
    twice -= (twice >> 1) & pairs;
    single = (single & nibbles) + ((single >> 2) & nibbles);
    twice = (twice & nibbles) + ((twice >> 2) & nibbles);
    single += twice + twice; /* at most 12 in a nibble */
    return (single & bytes) + ((single >> 4) & bytes);
}

#endif
