/* Instructions by the counter of the privileged architecture. */
#include "board.h"

uint64_t et_board_instret(void)
{
#if __riscv_xlen == 64
    uint64_t count;
    __asm__ volatile("csrr %0, minstret" : "=r"(count) : : "memory");
    return count;
#else
    uint32_t high, low, again;
    do { /* until the upper half stood still while the lower one was read */
        __asm__ volatile("csrr %0, minstreth" : "=r"(high) : : "memory");
        __asm__ volatile("csrr %0, minstret" : "=r"(low) : : "memory");
        __asm__ volatile("csrr %0, minstreth" : "=r"(again) : : "memory");
    } while (high != again);
    return ((uint64_t)high << 32) | low;
#endif
}
