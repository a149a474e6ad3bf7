/* A NOR flash in memory that loses power after a given number of bytes: erasing sets bits, programming clears them, and
 * the byte at which the power goes is left half done. */
#ifndef NOR_FLASH_H
#define NOR_FLASH_H

#include "et_store.h"

#define NOR_LARGEST 65536u

typedef struct {
    uint8_t bytes[NOR_LARGEST];
    uint32_t left;     /* bytes to erase or program until the power goes; UINT32_MAX: never */
    uint32_t touched;  /* bytes erased or programmed */
    uint32_t erased;   /* pages */
    uint32_t random;   /* state of the generator of half-done bytes */
    bool scattered;    /* a cut erase leaves its marks all over the page, not up to a byte */
    bool dead;
    bool overwritten;  /* a program asked for a bit to become 1 */
} nor_flash;

extern nor_flash nor;

/* Chooses the shape of this flash. */
et_flash nor_table(uint32_t page_bytes, uint32_t pages, uint32_t write_bytes);

#endif
