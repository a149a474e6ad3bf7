/* Instructions by the performance counter of Espressif's cores, which have no minstret. It has 32 bits and wraps.
 * Registers: ESP32-C3 technical reference manual, chapter 1 (mpcer 0x7E0, mpcmr 0x7E1, mpccr 0x7E2). */
#include "board.h"

#define COUNT_INSTRUCTIONS 2u
#define RUN 1u

uint64_t et_board_instret(void)
{
    uint32_t count;
    __asm__ volatile("csrw 0x7E0, %0" : : "r"(COUNT_INSTRUCTIONS) : "memory");
    __asm__ volatile("csrw 0x7E1, %0" : : "r"(RUN) : "memory");
    __asm__ volatile("csrr %0, 0x7E2" : "=r"(count) : : "memory");
    return count;
}
