/* Weights, optimizer state and the numbers of a training run in flash, safe against a loss of power at any moment.
 *
 * The flash holds two slots of equal size; a slot is a header page and the pages of the data. SAVE writes the slot that
 * does not hold the newest state, in this order:
 *   1. erase the header page: the slot holds nothing from here on
 *   2. erase and program each data page that differs from what it should hold
 *   3. read all data back and compare
 *   4. program the header, its CRC last
 * A slot counts when the CRC of its header and that of its data are right. So a cut anywhere leaves the other slot, which
 * nothing has touched, or both. Pages that are right already are spared, unless the slot did not count before: a page that
 * was cut off while it was written may read right today and wrong tomorrow.
 *
 * header, little-endian: magic u32 | sequence u32 | bytes of data u32 | layout u32 | digest of the model [16] |
 *   learning rate f32 | seed u32 | step u32 | mark u64 | CRC-32 of the data u32 | CRC-32 of the header so far u32 | as many 0xFF as complete a write
 */
#ifndef ET_STORE_H
#define ET_STORE_H

#include "et_base.h"

#define ET_STORE_HEADER_BYTES 60u
#define ET_STORE_DIGEST_BYTES 16u
/* The most that write_bytes may be. */
#define ET_STORE_LARGEST_WRITE 256u

/* The part of a flash that the store may use. */
typedef struct {
    uint32_t page_bytes;  /* what is erased at once; a multiple of write_bytes, and of 64 */
    uint32_t pages;       /* at least 4 */
    uint32_t write_bytes; /* what is programmed at once, aligned: a power of 2, 1 to 256 */
} et_flash;

/* How it is reached: a driver defines these three. They are functions and no table of pointers, so that the stack of a
 * firmware can be counted. Offsets count from the first byte of that part; false: the flash reports a failure.
 * Where a board brings no driver, et_flash.c has definitions that fail and give way to yours: then nothing is saved.
 *   et_flash_erase     all bits of a page become 1
 *   et_flash_program   write_bytes of them, erased before. 0 bytes: nothing is programmed; whether there is a driver, and
 *                      a flash behind it */
bool et_flash_read(uint32_t offset, uint8_t *to, uint32_t bytes);
bool et_flash_erase(uint32_t page);
bool et_flash_program(uint32_t offset, const uint8_t *from, uint32_t bytes);

/* What is kept. `data` and the scalars are read by save, and written by load and rollback. */
typedef struct {
    void *data;
    uint32_t bytes;
    uint32_t layout;       /* any number that changes when the meaning of data does */
    const uint8_t *digest; /* [ET_STORE_DIGEST_BYTES] of the model */
    float *learning_rate;
    uint32_t *seed;
    uint32_t *step;
} et_store_state;

/* What save and load tell of a state. */
typedef struct {
    uint32_t sequence; /* one more with each save */
    uint64_t mark;     /* what the caller of save gave */
} et_store_label;

/* Whether states can be kept at all. ET_OK: yes. ET_NO_FLASH: there is no driver. ET_BAD_ARGUMENT: the state does not fit,
 * or the table is wrong. */
ET_CHECKED et_status et_store_usable(const et_flash *flash, const et_store_state *state);

/* Keeps a state. mark: any number, given back by load.
 * ET_OK: from now on load gives this state. ET_NO_FLASH, ET_BAD_ARGUMENT: as above; ET_FLASH_FAILED: an erase or program
 * failed, or the data does not read back; in all these cases load gives the state that it gave before. */
ET_CHECKED et_status et_store_save(const et_flash *flash, const et_store_state *state, uint64_t mark, et_store_label *label);

/* The newest state of this model. ET_NO_STATE: there is none; nothing was written. */
ET_CHECKED et_status et_store_load(const et_flash *flash, const et_store_state *state, et_store_label *label);

/* Gives up the newest state and loads the one saved before it. ET_NO_STATE: there is none before it; nothing was changed. */
ET_CHECKED et_status et_store_rollback(const et_flash *flash, const et_store_state *state, et_store_label *label);

#endif
