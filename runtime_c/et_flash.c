/* No driver for a flash: what a board's own, or yours, takes the place of (et_store.h). */
#include "et_store.h"

ET_WEAK bool et_flash_read(uint32_t offset, uint8_t *to, uint32_t bytes)
{
    (void)offset;
    (void)to;
    (void)bytes;
    return false;
}

ET_WEAK bool et_flash_erase(uint32_t page)
{
    (void)page;
    return false;
}

ET_WEAK bool et_flash_program(uint32_t offset, const uint8_t *from, uint32_t bytes)
{
    (void)offset;
    (void)from;
    (void)bytes;
    return false;
}
