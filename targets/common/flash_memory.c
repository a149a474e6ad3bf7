/* Memory that behaves as NOR flash, for emulators: erasing sets the bits of a page, programming only clears them. It
 * survives a reset, since start-up code knows nothing of it.
 *
 * Tests write to et_flash_power how many more bytes may be erased or programmed; at the next one the board starts over, as
 * after a loss of power. 0: for ever.
 */
#include "board.h"
#include "et_store.h"

#define PAGE_BYTES ET_BOARD_STORE_PAGE_BYTES
#define STORE ((uint8_t *)(uintptr_t)ET_BOARD_STORE)

extern volatile uint32_t et_flash_power;
volatile uint32_t et_flash_power;

/* As a reset does it, in machine mode: no call, for nothing of this stack is used again. */
static void start_over(void)
{
    __asm__ volatile("li t0, 0x1800\n\tcsrs mstatus, t0\n\tla t0, _start\n\tcsrw mepc, t0\n\tmret" : : : "t0", "memory");
}

static void use_power(void)
{
    if (et_flash_power != 0 && --et_flash_power == 0)
        start_over();
}

bool et_flash_read(uint32_t offset, uint8_t *to, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = STORE[offset + i];
    return true;
}

bool et_flash_erase(uint32_t page)
{
    for (uint32_t i = 0; i < PAGE_BYTES; i++) {
        use_power();
        STORE[page * PAGE_BYTES + i] = 0xFF;
    }
    return true;
}

bool et_flash_program(uint32_t offset, const uint8_t *from, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++) {
        use_power();
        STORE[offset + i] = (uint8_t)(STORE[offset + i] & from[i]);
    }
    return true;
}
