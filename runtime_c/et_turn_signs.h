/* Blocks of packed signs turned: bits along one axis become bits along the other. Not for callers. */
#ifndef ET_TURN_SIGNS_H
#define ET_TURN_SIGNS_H

#include "et_block.h"

/* The bits of eight channels of eight filters, turned: row i gets bit j from bit i of row j. Bytes of a word from the
 * lowest on are rows. Halves of ever larger blocks change places across the diagonal. */
static inline void et_turn_block(uint32_t rows[2])
{
    for (int32_t i = 0; i < 2; i++) {
        uint32_t word = rows[i], change = (word ^ (word >> 7)) & 0x00AA00AAu;
        word ^= change;
        ET_OPAQUE(word);
        word ^= change << 7;
        change = (word ^ (word >> 14)) & 0x0000CCCCu;
        word ^= change;
        ET_OPAQUE(word);
        rows[i] = word ^ (change << 14);
    }
    const uint32_t change = (rows[0] ^ (rows[1] << 4)) & 0xF0F0F0F0u;
    rows[0] ^= change;
    rows[1] ^= change >> 4;
}

/* A byte of up to eight filters, `step` apart, becomes a byte of up to eight inputs, `turned_step` apart. */
static inline void et_turn_part(const uint8_t *from, size_t step, size_t filters, uint8_t *to, size_t turned_step, size_t inputs)
{
    uint32_t rows[2] = {0, 0};
    for (size_t j = 0; j < 8 && j < filters; j++, from += step) {
        rows[j / 4] |= (uint32_t)*from << 8 * (j % 4);
        ET_OPAQUE(from);
    }
    et_turn_block(rows);
    for (size_t i = 0; i < 8 && i < inputs; i++, to += turned_step) {
        *to = (uint8_t)(rows[i / 4] >> 8 * (i % 4));
        ET_OPAQUE(to);
    }
}

/* The next `step` bytes on; the pointer moves along. */
static inline uint32_t et_next_byte(const uint8_t **from, size_t step)
{
    const uint32_t byte = **from;
    *from += step;
    ET_OPAQUE(*from);
    return byte;
}

/* The same for eight and eight. */
static inline void et_turn_whole(const uint8_t *from, size_t step, uint8_t *to, size_t turned_step)
{
    uint32_t rows[2];
    ET_UNROLL
    for (size_t i = 0; i < 2; i++) {
        rows[i] = et_next_byte(&from, step);
        rows[i] |= et_next_byte(&from, step) << 8;
        rows[i] |= et_next_byte(&from, step) << 16;
        rows[i] |= et_next_byte(&from, step) << 24;
    }
    et_turn_block(rows);
    ET_UNROLL
    for (size_t i = 0; i < 2; i++) {
        ET_UNROLL
        for (size_t j = 0; j < 4; j++, to += turned_step) {
            *to = (uint8_t)(rows[i] >> 8 * j);
            ET_OPAQUE(to);
        }
    }
}

#endif
