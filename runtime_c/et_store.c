#include "et_store.h"

#include "et_link.h"

#define MAGIC 0x31535445u /* "ETS1" */
#define SLOTS 2u
#define BLOCK_BYTES 64u /* read at once; divides a page, holds a header */
#define CRC_AT (ET_STORE_HEADER_BYTES - ET_LINK_CRC_BYTES)

/* What a slot's header says. */
typedef struct {
    uint32_t sequence, bytes, layout, rate, seed, step, data_crc;
    uint64_t mark;
    bool counts; /* header and data are whole; the model may be another one */
    bool ours;   /* and it is a state of this model */
} slot_facts;

typedef union {
    float value;
    uint32_t bits;
} float_bits;

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t slot_pages(const et_flash *flash)
{
    return flash->pages / SLOTS;
}

static uint32_t slot_start(const et_flash *flash, uint32_t slot)
{
    return slot * slot_pages(flash) * flash->page_bytes;
}

static bool is_sound(const et_flash *flash, const et_store_state *state)
{
    const uint32_t unit = flash->write_bytes;
    if (unit == 0 || unit > ET_STORE_LARGEST_WRITE || (unit & (unit - 1)) != 0 || flash->pages < 2 * SLOTS)
        return false;
    if (flash->page_bytes == 0 || flash->page_bytes % unit != 0 || flash->page_bytes % BLOCK_BYTES != 0 ||
        flash->pages > UINT32_MAX / flash->page_bytes)
        return false;
    return state->bytes <= (slot_pages(flash) - 1) * flash->page_bytes;
}

/* ---- reading ---- */

/* The CRC of data in the flash; false where it cannot be read. */
static bool crc_of(uint32_t offset, uint32_t bytes, uint32_t *crc)
{
    uint8_t block[BLOCK_BYTES];
    *crc = 0;
    for (uint32_t done = 0; done < bytes; done += BLOCK_BYTES) {
        const uint32_t here = smaller(BLOCK_BYTES, bytes - done);
        if (!et_flash_read(offset + done, block, here))
            return false;
        *crc = et_link_crc32_on(*crc, block, here);
    }
    return true;
}

static slot_facts look_at(const et_flash *flash, const et_store_state *state, uint32_t slot)
{
    slot_facts facts = {.counts = false, .ours = false};
    uint8_t header[ET_STORE_HEADER_BYTES];
    const uint32_t start = slot_start(flash, slot);
    if (!et_flash_read(start, header, sizeof(header)) || et_link_get_u32(header) != MAGIC ||
        et_link_get_u32(header + CRC_AT) != et_link_crc32(header, CRC_AT))
        return facts;
    facts.sequence = et_link_get_u32(header + 4);
    facts.bytes = et_link_get_u32(header + 8);
    facts.layout = et_link_get_u32(header + 12);
    facts.rate = et_link_get_u32(header + 32);
    facts.seed = et_link_get_u32(header + 36);
    facts.step = et_link_get_u32(header + 40);
    facts.mark = et_link_get_u64(header + 44);
    facts.data_crc = et_link_get_u32(header + 52);
    uint32_t crc;
    facts.counts = facts.bytes <= (slot_pages(flash) - 1) * flash->page_bytes &&
                   crc_of(start + flash->page_bytes, facts.bytes, &crc) && crc == facts.data_crc;
    facts.ours = facts.counts && facts.bytes == state->bytes && facts.layout == state->layout;
    for (uint32_t i = 0; i < ET_STORE_DIGEST_BYTES; i++)
        facts.ours = facts.ours && header[16 + i] == state->digest[i];
    return facts;
}

/* The slot with the newest state of this model, or SLOTS; sequence numbers may have gone round. */
static uint32_t newest(const slot_facts *facts)
{
    if (facts[0].ours && facts[1].ours)
        return (uint32_t)(facts[1].sequence - facts[0].sequence) < 0x80000000u ? 1 : 0;
    return facts[0].ours ? 0 : facts[1].ours ? 1 : SLOTS;
}

static et_status take(const et_flash *flash, const et_store_state *state, uint32_t slot, const slot_facts *facts,
                      et_store_label *label)
{
    if (!et_flash_read(slot_start(flash, slot) + flash->page_bytes, state->data, state->bytes))
        return ET_FLASH_FAILED;
    float_bits rate;
    rate.bits = facts->rate;
    *state->learning_rate = rate.value;
    *state->seed = facts->seed;
    *state->step = facts->step;
    label->sequence = facts->sequence;
    label->mark = facts->mark;
    return ET_OK;
}

/* ---- writing ---- */

/* Programs bytes, the last write filled up with 0xFF. */
static bool program(const et_flash *flash, uint32_t offset, const uint8_t *from, uint32_t bytes)
{
    uint8_t unit[ET_STORE_LARGEST_WRITE];
    for (uint32_t done = 0; done < bytes; done += flash->write_bytes) {
        for (uint32_t i = 0; i < flash->write_bytes; i++)
            unit[i] = done + i < bytes ? from[done + i] : 0xFFu;
        if (!et_flash_program(offset + done, unit, flash->write_bytes))
            return false;
    }
    return true;
}

/* Whether the flash holds these bytes. */
static bool holds(uint32_t offset, const uint8_t *wanted, uint32_t bytes)
{
    uint8_t block[BLOCK_BYTES];
    for (uint32_t done = 0; done < bytes; done += BLOCK_BYTES) {
        const uint32_t here = smaller(BLOCK_BYTES, bytes - done);
        if (!et_flash_read(offset + done, block, here))
            return false;
        for (uint32_t i = 0; i < here; i++)
            if (block[i] != wanted[done + i])
                return false;
    }
    return true;
}

static bool write_data(const et_flash *flash, const et_store_state *state, uint32_t slot, bool spare)
{
    const uint8_t *const data = state->data;
    const uint32_t first = slot * slot_pages(flash) + 1;
    for (uint32_t done = 0, page = first; done < state->bytes; done += flash->page_bytes, page++) {
        const uint32_t here = smaller(flash->page_bytes, state->bytes - done);
        const uint32_t offset = page * flash->page_bytes;
        if (spare && holds(offset, data + done, here))
            continue;
        if (!et_flash_erase(page) || !program(flash, offset, data + done, here))
            return false;
    }
    return holds(first * flash->page_bytes, data, state->bytes);
}

static bool write_header(const et_flash *flash, const et_store_state *state, uint32_t slot, const et_store_label *label)
{
    uint8_t header[ET_STORE_HEADER_BYTES];
    float_bits rate;
    rate.value = *state->learning_rate;
    uint8_t *next = et_link_put_u32(header, MAGIC);
    next = et_link_put_u32(next, label->sequence);
    next = et_link_put_u32(next, state->bytes);
    next = et_link_put_u32(next, state->layout);
    for (uint32_t i = 0; i < ET_STORE_DIGEST_BYTES; i++)
        *next++ = state->digest[i];
    next = et_link_put_u32(next, rate.bits);
    next = et_link_put_u32(next, *state->seed);
    next = et_link_put_u32(next, *state->step);
    next = et_link_put_u64(next, label->mark);
    next = et_link_put_u32(next, et_link_crc32(state->data, state->bytes));
    (void)et_link_put_u32(next, et_link_crc32(header, CRC_AT));
    const uint32_t start = slot_start(flash, slot);
    return program(flash, start, header, sizeof(header)) && holds(start, header, sizeof(header));
}

et_status et_store_usable(const et_flash *flash, const et_store_state *state)
{
    if (!et_flash_program(0, NULL, 0))
        return ET_NO_FLASH;
    return is_sound(flash, state) ? ET_OK : ET_BAD_ARGUMENT;
}

et_status et_store_save(const et_flash *flash, const et_store_state *state, uint64_t mark, et_store_label *label)
{
    ET_TRY(et_store_usable(flash, state));
    const slot_facts facts[SLOTS] = {look_at(flash, state, 0), look_at(flash, state, 1)};
    const uint32_t current = newest(facts);
    const uint32_t slot = current == SLOTS ? 0 : 1 - current;
    const et_store_label fresh = {current == SLOTS ? 1 : facts[current].sequence + 1, mark};
    if (!et_flash_erase(slot * slot_pages(flash)) || !write_data(flash, state, slot, facts[slot].counts) ||
        !write_header(flash, state, slot, &fresh))
        return ET_FLASH_FAILED;
    *label = fresh;
    return ET_OK;
}

et_status et_store_load(const et_flash *flash, const et_store_state *state, et_store_label *label)
{
    if (!is_sound(flash, state))
        return ET_BAD_ARGUMENT;
    const slot_facts facts[SLOTS] = {look_at(flash, state, 0), look_at(flash, state, 1)};
    const uint32_t current = newest(facts);
    return current == SLOTS ? ET_NO_STATE : take(flash, state, current, &facts[current], label);
}

et_status et_store_rollback(const et_flash *flash, const et_store_state *state, et_store_label *label)
{
    if (!is_sound(flash, state))
        return ET_BAD_ARGUMENT;
    const slot_facts facts[SLOTS] = {look_at(flash, state, 0), look_at(flash, state, 1)};
    const uint32_t current = newest(facts);
    if (current == SLOTS || !facts[1 - current].ours)
        return ET_NO_STATE;
    if (!et_flash_erase(current * slot_pages(flash)))
        return ET_FLASH_FAILED;
    return take(flash, state, 1 - current, &facts[1 - current], label);
}
