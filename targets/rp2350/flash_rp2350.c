/* The flash of an RP2350 board, by the boot ROM's own flash_op(), which leaves the mode of execution in place, erases or
 * programs, and comes back: code may run from the flash around it. Datasheet, 5.5.1 "Locating the API functions" and 5.4.8.9
 * "flash_op". No interrupt runs here, and the other core sleeps in the ROM. */
#include "board.h"
#include "et_store.h"

/* In rom_call.S. */
uintptr_t et_rom_call(uintptr_t function, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d);

#define LOOK_UP (*(const volatile uint16_t *)(uintptr_t)0x7dfau)
#define FLASH_OP ((uint32_t)'F' | (uint32_t)'O' << 8)
#define FOR_RISCV 1u
#define SECURE (UINT32_C(1) << 8) /* and addresses as the flash is stored, not as the image is mapped */
#define ERASE (UINT32_C(0) << 16)
#define PROGRAM (UINT32_C(1) << 16)
#define WRITE_WORDS (ET_BOARD_STORE_WRITE_BYTES / 4u)

static bool flash_op(uint32_t operation, uint32_t offset, uint32_t bytes, const uint32_t *from)
{
    const uintptr_t function = et_rom_call(LOOK_UP, FLASH_OP, FOR_RISCV, 0, 0);
    return function != 0 &&
           et_rom_call(function, SECURE | operation, ET_BOARD_STORE + offset, bytes, (uintptr_t)from) == 0;
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
    return flash_op(ERASE, page * ET_BOARD_STORE_PAGE_BYTES, ET_BOARD_STORE_PAGE_BYTES, 0);
}

bool et_flash_program(uint32_t offset, const uint8_t *from, uint32_t bytes)
{
    uint32_t words[WRITE_WORDS];
    if (bytes != ET_BOARD_STORE_WRITE_BYTES)
        return bytes == 0;
    for (uint32_t i = 0; i < WRITE_WORDS; i++)
        words[i] = from[4 * i] | (uint32_t)from[4 * i + 1] << 8 | (uint32_t)from[4 * i + 2] << 16 |
                   (uint32_t)from[4 * i + 3] << 24;
    return flash_op(PROGRAM, offset, bytes, words);
}
