#include "et_link.h"

/* Most bytes in one COBS block; a block of that length stands for itself alone, without a zero after it. */
#define BLOCK_BYTES 254u

uint32_t et_link_crc32(const uint8_t *data, size_t bytes)
{
    return et_link_crc32_on(0, data, bytes);
}

uint32_t et_link_crc32_on(uint32_t before, const uint8_t *data, size_t bytes)
{
    /* Entry i is the reflected polynomial 0xEDB88320 applied four times to i: 64 bytes of table instead of 1024. */
    static const uint32_t nibbles[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    uint32_t crc = ~before;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        crc = (crc >> 4) ^ nibbles[crc & 15u];
        crc = (crc >> 4) ^ nibbles[crc & 15u];
    }
    return ~crc;
}

uint16_t et_link_get_u16(const uint8_t *from)
{
    return (uint16_t)(from[0] | (unsigned)from[1] << 8);
}

uint32_t et_link_get_u32(const uint8_t *from)
{
    return et_link_get_u16(from) | (uint32_t)et_link_get_u16(from + 2) << 16;
}

uint64_t et_link_get_u64(const uint8_t *from)
{
    return et_link_get_u32(from) | (uint64_t)et_link_get_u32(from + 4) << 32;
}

uint8_t *et_link_put_u16(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)(value & 0xFFu);
    to[1] = (uint8_t)(value >> 8);
    return to + 2;
}

uint8_t *et_link_put_u32(uint8_t *to, uint32_t value)
{
    return et_link_put_u16(et_link_put_u16(to, (uint16_t)(value & 0xFFFFu)), (uint16_t)(value >> 16));
}

uint8_t *et_link_put_u64(uint8_t *to, uint64_t value)
{
    return et_link_put_u32(et_link_put_u32(to, (uint32_t)(value & 0xFFFFFFFFu)), (uint32_t)(value >> 32));
}

static void start_frame(et_link_decoder *decoder)
{
    decoder->used = 0;
    decoder->left = 0;
    decoder->zero_due = false;
    decoder->broken = false;
    decoder->begun = false;
}

void et_link_begin(et_link_decoder *decoder, uint8_t *buffer, size_t capacity)
{
    decoder->buffer = buffer;
    decoder->capacity = capacity;
    decoder->damaged = false;
    start_frame(decoder);
}

static void append(et_link_decoder *decoder, uint8_t byte)
{
    if (decoder->used == decoder->capacity)
        decoder->broken = true;
    else
        decoder->buffer[decoder->used++] = byte;
}

/* Whether the decoded bytes are a frame of this version, whole and undamaged. */
static bool is_good(const et_link_decoder *decoder)
{
    const uint8_t *const buffer = decoder->buffer;
    if (decoder->broken || decoder->left != 0 || decoder->used < ET_LINK_FRAME_BYTES(0u))
        return false;
    const size_t checked = decoder->used - ET_LINK_CRC_BYTES;
    return buffer[0] == ET_LINK_VERSION && et_link_get_u16(buffer + 4) == checked - ET_LINK_HEADER_BYTES &&
           et_link_get_u32(buffer + checked) == et_link_crc32(buffer, checked);
}

bool et_link_push(et_link_decoder *decoder, uint8_t byte, et_link_frame *frame)
{
    decoder->damaged = false;
    if (et_link_append(decoder, byte))
        return false;
    if (byte == 0) {
        const bool good = is_good(decoder);
        decoder->damaged = !good && decoder->begun;
        if (good) {
            frame->type = decoder->buffer[1];
            frame->sequence = et_link_get_u16(decoder->buffer + 2);
            frame->length = et_link_get_u16(decoder->buffer + 4);
            frame->payload = decoder->buffer + ET_LINK_HEADER_BYTES;
        }
        start_frame(decoder);
        return good;
    }
    decoder->begun = true;
    if (decoder->broken)
        return false;
    if (decoder->left > 0) {
        decoder->left--;
        append(decoder, byte);
        return false;
    }
    if (decoder->zero_due)
        append(decoder, 0);
    decoder->left = (uint8_t)(byte - 1u);
    decoder->zero_due = byte != BLOCK_BYTES + 1u;
    return false;
}

void et_link_send(uint8_t *buffer, uint8_t type, uint16_t sequence, uint16_t length, void (*write)(uint8_t byte))
{
    const size_t checked = ET_LINK_HEADER_BYTES + (size_t)length;
    const size_t total = ET_LINK_FRAME_BYTES((size_t)length);
    buffer[0] = (uint8_t)ET_LINK_VERSION;
    buffer[1] = type;
    (void)et_link_put_u16(et_link_put_u16(buffer + 2, sequence), length);
    (void)et_link_put_u32(buffer + checked, et_link_crc32(buffer, checked));

    size_t start = 0;
    for (;;) {
        size_t run = 0;
        while (run < BLOCK_BYTES && start + run < total && buffer[start + run] != 0)
            run++;
        write((uint8_t)(run + 1u));
        for (size_t i = 0; i < run; i++)
            write(buffer[start + i]);
        start += run;
        if (start == total)
            break;
        if (run < BLOCK_BYTES)
            start++; /* the zero that the block stands for; when it was the last byte, an empty block follows */
    }
    write(0);
}
