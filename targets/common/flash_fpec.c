/* The flash controller that GD32VF103 (user manual, chapter 2 "FMC") and CH32V307 (reference manual, chapter "FLASH", standard
 * programming) share: pages are erased by a command, half words programmed by writing them. The core is held up meanwhile
 * where it reads the same flash. */
#include "board.h"
#include "et_store.h"

#define KEY ET_BOARD_REGISTER(0x40022004u)
#define STATUS ET_BOARD_REGISTER(0x4002200cu)
#define CONTROL ET_BOARD_REGISTER(0x40022010u)
#define ADDRESS ET_BOARD_REGISTER(0x40022014u)
#define HALF_WORD(address) (*(volatile uint16_t *)(uintptr_t)(address))

#define FIRST_KEY 0x45670123u
#define SECOND_KEY 0xcdef89abu
#define BUSY 0x01u
#define PROGRAM_FAILED 0x04u
#define PROTECTED 0x10u
#define DONE 0x20u
#define PROGRAM 0x01u
#define ERASE_PAGE 0x02u
#define START 0x40u
#define LOCKED 0x80u

static void unlock(void)
{
    if ((CONTROL & LOCKED) != 0) {
        KEY = FIRST_KEY;
        KEY = SECOND_KEY;
    }
    STATUS = DONE | PROTECTED | PROGRAM_FAILED; /* each is cleared by writing 1 */
}

/* Waits for the end of a command; whether it succeeded. */
static bool ended(void)
{
    while ((STATUS & BUSY) != 0) {
    }
    return (STATUS & (PROTECTED | PROGRAM_FAILED)) == 0;
}

bool et_flash_read(uint32_t offset, uint8_t *to, uint32_t bytes)
{
    const volatile uint8_t *const from = (const volatile uint8_t *)(uintptr_t)ET_BOARD_STORE + offset;
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = from[i];
    return true;
}

bool et_flash_erase(uint32_t page)
{
    unlock();
    CONTROL |= ERASE_PAGE;
    ADDRESS = ET_BOARD_STORE + page * ET_BOARD_STORE_PAGE_BYTES;
    CONTROL |= START;
    const bool good = ended();
    CONTROL = (CONTROL & ~ERASE_PAGE) | LOCKED;
    return good;
}

bool et_flash_program(uint32_t offset, const uint8_t *from, uint32_t bytes)
{
    bool good = true;
    if (bytes == 0)
        return true;
    unlock();
    CONTROL |= PROGRAM;
    for (uint32_t i = 0; good && i < bytes; i += 2) {
        HALF_WORD(ET_BOARD_STORE + offset + i) = (uint16_t)(from[i] | (uint32_t)from[i + 1] << 8);
        good = ended();
    }
    CONTROL = (CONTROL & ~PROGRAM) | LOCKED;
    return good;
}
