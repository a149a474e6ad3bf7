/* Positions of winning taps in 2 or 4 bits each, as et_pool.h lays them out. Not for callers. */
#ifndef ET_POOL_POSITIONS_H
#define ET_POOL_POSITIONS_H

#include "et_block.h"

/* Bytes of one pooled pixel. */
static inline size_t et_positions_bytes(size_t channels, uint32_t bits)
{
    return (channels * bits + 7u) / 8u;
}

/* What follows the last channel up to a multiple of four bytes, so that only whole bytes are packed. */
static inline void et_end_positions(size_t channels, uint8_t *position)
{
    for (size_t c = channels; c % 4u != 0u; ++c)
        position[c] = 0;
}

/* Where memory is read eight bytes at a time, the first of them lowest. */
#if !ET_SCALAR_CORE && defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ET_EIGHT_BYTES 1
#else
#define ET_EIGHT_BYTES 0
#endif

/* One pooled pixel: a byte for each channel, ended as above -> `bits` of it. */
ET_INLINE void et_pack_positions(size_t channels, uint32_t bits, const uint8_t *position, uint8_t *ET_RESTRICT packed)
{
    const size_t together = 8u / bits;
    size_t c = 0;
#if ET_EIGHT_BYTES
    for (; bits == 2u && c + 8u <= channels; c += 8u) { /* pairs, fours, eights */
        uint64_t word;
        __builtin_memcpy(&word, position + c, sizeof word);
        word = (word | word >> 6) & UINT64_C(0x000F000F000F000F);
        word = (word | word >> 12) & UINT64_C(0x000000FF000000FF);
        *packed++ = (uint8_t)word;
        *packed++ = (uint8_t)(word >> 32);
    }
#endif
    for (; c < channels; c += together) {
        uint32_t byte = 0;
        for (size_t i = together; i-- > 0;)
            byte = byte << bits | position[c + i];
        *packed++ = (uint8_t)byte;
    }
}

/* The position of one channel of a pooled pixel. */
static inline uint32_t et_position(const uint8_t *packed, size_t channel, uint32_t bits)
{
    const size_t bit = channel * bits;
    return (uint32_t)packed[bit / 8u] >> bit % 8u & ((1u << bits) - 1u);
}

#endif
