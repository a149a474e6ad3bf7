/* A flash that is read like memory. Nobody has written its erasing and programming: until you define et_flash_erase() and
 * et_flash_program() in a file of your own (et_store.h), states are not kept, and SAVE says so. */
#include "board.h"
#include "et_store.h"

bool et_flash_read(uint32_t offset, uint8_t *to, uint32_t bytes)
{
    const volatile uint8_t *const from = (const volatile uint8_t *)(uintptr_t)ET_BOARD_STORE + offset;
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = from[i];
    return true;
}
