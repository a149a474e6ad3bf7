/* Frames on a serial line (docs/SPEC.md, "Wire format").
 *
 * frame = version (1), type (1), sequence (2), length of the payload (2), payload, CRC-32 of all before (4); integers are
 * little-endian. On the line a frame is COBS-encoded and ends with a zero byte; no other zero byte occurs, so after any
 * damage the next zero starts afresh.
 * Nothing here allocates; the caller owns the one buffer, which takes requests and answers in turn.
 */
#ifndef ET_LINK_H
#define ET_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ET_LINK_VERSION 1u
#define ET_LINK_HEADER_BYTES 6u
#define ET_LINK_CRC_BYTES 4u
/* What a buffer must hold for payloads of up to `payload` bytes. */
#define ET_LINK_FRAME_BYTES(payload) (ET_LINK_HEADER_BYTES + (payload) + ET_LINK_CRC_BYTES)

/* A frame that was received and checked; `payload` points into the decoder's buffer. */
typedef struct {
    uint8_t type;
    uint16_t sequence;
    uint16_t length;
    uint8_t *payload;
} et_link_frame;

/* Decodes byte by byte into the buffer. Set by et_link_begin. */
typedef struct {
    uint8_t *buffer;
    size_t capacity; /* bytes of buffer: ET_LINK_FRAME_BYTES(largest payload) */
    size_t used;     /* bytes decoded of the frame that is arriving */
    uint8_t left;    /* bytes until the next code byte */
    bool zero_due;   /* a zero comes before the next block */
    bool broken;     /* skip all up to the next zero */
    bool begun;      /* bytes have come since the last zero */
    bool damaged;    /* the last byte that was taken ended something that was no good frame */
} et_link_decoder;

/* CRC-32 of IEEE 802.3, as zlib's. */
uint32_t et_link_crc32(const uint8_t *data, size_t bytes);

/* The same of bytes that follow others: `before` is the CRC of those, 0 where there are none. */
uint32_t et_link_crc32_on(uint32_t before, const uint8_t *data, size_t bytes);

/* Starts with an empty frame. buffer: [capacity] */
void et_link_begin(et_link_decoder *decoder, uint8_t *buffer, size_t capacity);

/* Takes what nearly every byte is: one more of a block, with room for it. False: the byte is for et_link_push. */
static inline bool et_link_append(et_link_decoder *decoder, uint8_t byte)
{
    if (byte == 0 || decoder->left == 0 || decoder->used == decoder->capacity)
        return false;
    decoder->left--;
    decoder->buffer[decoder->used++] = byte;
    return true;
}

/* Takes one byte; true when it completes a good frame, which stays valid until the next call. Damaged, oversized and
 * foreign frames are dropped, and `damaged` is set until the next call. */
bool et_link_push(et_link_decoder *decoder, uint8_t byte, et_link_frame *frame);

/* Sends the frame whose payload lies at buffer + ET_LINK_HEADER_BYTES; header and CRC are put around it.
 *   buffer   [ET_LINK_FRAME_BYTES(length)] */
void et_link_send(uint8_t *buffer, uint8_t type, uint16_t sequence, uint16_t length, void (*write)(uint8_t byte));

/* Little-endian integers at any address. The put functions return the byte after. */
uint16_t et_link_get_u16(const uint8_t *from);
uint32_t et_link_get_u32(const uint8_t *from);
uint64_t et_link_get_u64(const uint8_t *from);
uint8_t *et_link_put_u16(uint8_t *to, uint16_t value);
uint8_t *et_link_put_u32(uint8_t *to, uint32_t value);
uint8_t *et_link_put_u64(uint8_t *to, uint64_t value);

#endif
