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

/* One pooled pixel: a byte for each channel, ended as above -> `bits` of it. */
ET_INLINE void et_pack_positions(size_t channels, uint32_t bits, const uint8_t *position, uint8_t *ET_RESTRICT packed)
{
    const size_t together = 8u / bits;
    for (size_t c = 0; c < channels; c += together) {
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
