#include "nor_flash.h"

nor_flash nor;
static uint32_t nor_page_bytes;

static uint32_t draw(void)
{
    nor.random = nor.random * 1664525u + 1013904223u;
    return nor.random >> 16;
}

/* Whether there is power for one more byte. */
static bool powered(void)
{
    if (nor.left == 0)
        nor.dead = true;
    else if (nor.left != UINT32_MAX)
        nor.left--;
    return !nor.dead;
}

bool et_flash_read(uint32_t offset, uint8_t *to, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = nor.bytes[offset + i];
    return true;
}

bool et_flash_erase(uint32_t page)
{
    uint8_t *const bytes = nor.bytes + page * nor_page_bytes;
    if (nor.dead)
        return false;
    nor.erased++;
    if (nor.scattered && nor.left < nor_page_bytes) {
        for (uint32_t i = 0; i < nor_page_bytes; i++)
            if (draw() % nor_page_bytes <= nor.left)
                bytes[i] |= (uint8_t)(draw() | draw());
        nor.touched += nor.left;
        nor.left = 0;
        nor.dead = true;
        return false;
    }
    for (uint32_t i = 0; i < nor_page_bytes; i++) {
        if (!powered()) {
            bytes[i] |= (uint8_t)draw();
            return false;
        }
        bytes[i] = 0xFF;
        nor.touched++;
    }
    return true;
}

bool et_flash_program(uint32_t offset, const uint8_t *from, uint32_t bytes)
{
    if (bytes == 0)
        return true;
    if (nor.dead)
        return false;
    for (uint32_t i = 0; i < bytes; i++) {
        uint8_t *const byte = &nor.bytes[offset + i];
        if ((*byte & from[i]) != from[i])
            nor.overwritten = true;
        if (!powered()) {
            *byte &= (uint8_t)(from[i] | draw());
            return false;
        }
        *byte &= from[i];
        nor.touched++;
    }
    return true;
}

et_flash nor_table(uint32_t page_bytes, uint32_t pages, uint32_t write_bytes)
{
    const et_flash table = {page_bytes, pages, write_bytes};
    nor_page_bytes = page_bytes;
    return table;
}
