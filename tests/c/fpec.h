/* The flash controller of GD32VF103 and CH32V307 (targets/common/flash_fpec.c), for tests on the PC: registers are looked at
 * whenever one is used. Commands that the manuals forbid are counted as faults. */
#ifndef FPEC_H
#define FPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FPEC_BYTES 8192u
#define FPEC_PAGE_BYTES 1024u

typedef struct {
    uint8_t bytes[FPEC_BYTES];
    uint32_t faults;   /* half words or commands while locked, of programmed half words, without their bit */
    uint32_t erased;   /* pages */
    uint32_t programmed; /* half words */
    uint32_t left;     /* commands until one fails: a page that is protected */
} fpec_state;

extern fpec_state fpec;
volatile uint32_t *fpec_register(uintptr_t address);
void fpec_reset(void);

#endif
