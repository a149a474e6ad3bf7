#include "fpec.h"

#include <string.h>

#define KEY 0
#define STATUS 1
#define CONTROL 2
#define ADDRESS 3
#define PROGRAM 0x01u
#define ERASE 0x02u
#define START 0x40u
#define LOCK 0x80u
#define PROTECTED 0x10u
#define DONE 0x20u
#define SHOWN UINT32_C(0x80000000) /* in STATUS: put there to be read, and not written by the driver */

fpec_state fpec;
static uint8_t before[FPEC_BYTES];
static volatile uint32_t registers[4];
static uint32_t status, unlocking;
static bool locked;

void fpec_reset(void)
{
    memset(&fpec, 0, sizeof(fpec));
    memset(fpec.bytes, 0xFF, FPEC_BYTES);
    memset(before, 0xFF, FPEC_BYTES);
    fpec.left = UINT32_MAX;
    status = unlocking = 0;
    locked = true;
    registers[KEY] = registers[ADDRESS] = 0;
    registers[STATUS] = SHOWN;
    registers[CONTROL] = LOCK;
}

/* Whether a command may be done; else the page is protected. */
static bool permitted(void)
{
    if (fpec.left == 0) {
        status |= PROTECTED;
        return false;
    }
    fpec.left--;
    status |= DONE;
    return true;
}

/* What was written to the flash since: one half word, or nothing. */
static void settle_flash(void)
{
    for (uint32_t i = 0; i < FPEC_BYTES; i += 2) {
        if (memcmp(before + i, fpec.bytes + i, 2) == 0)
            continue;
        if (locked || (registers[CONTROL] & PROGRAM) == 0 || before[i] != 0xFF || before[i + 1] != 0xFF)
            fpec.faults++;
        fpec.programmed++;
        if (!permitted())
            memcpy(fpec.bytes + i, before + i, 2);
        memcpy(before + i, fpec.bytes + i, 2);
    }
}

static void settle_registers(void)
{
    static const uint32_t keys[2] = {0x45670123u, 0xcdef89abu};
    if (registers[KEY] != 0) {
        unlocking = registers[KEY] == keys[unlocking] ? unlocking + 1 : 0;
        registers[KEY] = 0;
        if (unlocking == 2) {
            unlocking = 0;
            locked = false;
            registers[CONTROL] &= ~LOCK;
        }
    }
    if ((registers[STATUS] & SHOWN) == 0)
        status &= ~registers[STATUS];
    if ((registers[CONTROL] & LOCK) != 0)
        locked = true;
    if ((registers[CONTROL] & START) != 0) {
        const uint32_t page = (registers[ADDRESS] - (uint32_t)(uintptr_t)fpec.bytes) / FPEC_PAGE_BYTES;
        registers[CONTROL] &= ~START;
        if (locked || (registers[CONTROL] & ERASE) == 0 || page >= FPEC_BYTES / FPEC_PAGE_BYTES) {
            fpec.faults++;
        } else if (permitted()) {
            memset(fpec.bytes + page * FPEC_PAGE_BYTES, 0xFF, FPEC_PAGE_BYTES);
            memset(before + page * FPEC_PAGE_BYTES, 0xFF, FPEC_PAGE_BYTES);
            fpec.erased++;
        }
    }
}

volatile uint32_t *fpec_register(uintptr_t address)
{
    static const uintptr_t places[4] = {0x40022004u, 0x4002200cu, 0x40022010u, 0x40022014u};
    settle_flash();
    settle_registers();
    registers[STATUS] = status | SHOWN;
    for (int i = 0; i < 4; i++)
        if (places[i] == address)
            return &registers[i];
    fpec.faults++;
    return &registers[ADDRESS];
}
