/* The counter of retired instructions. */
#include "board.h"

#if __riscv_xlen == 64
uint64_t board_instructions(void)
{
    uint64_t count;
    __asm__ volatile("csrr %0, minstret" : "=r"(count) : : "memory");
    return count;
}
#else
uint64_t board_instructions(void)
{
    uint32_t high, low, again;
    do { /* until the high half did not change between */
        __asm__ volatile("csrr %0, minstreth" : "=r"(high) : : "memory");
        __asm__ volatile("csrr %0, minstret" : "=r"(low) : : "memory");
        __asm__ volatile("csrr %0, minstreth" : "=r"(again) : : "memory");
    } while (high != again);
    return ((uint64_t)high << 32) | low;
}
#endif
