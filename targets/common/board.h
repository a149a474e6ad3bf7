/* What a board gives to the firmware: five functions. start.S calls main(), uart_*.c and exit_*.c define these. */
#ifndef ET_BOARD_H
#define ET_BOARD_H

#include <stdint.h>

/* Clocks, pins and the serial line at 115200 baud. Called once, before all others. */
void et_board_init(void);

/* Sends one byte; waits until the line takes it. */
void et_board_write(uint8_t byte);

/* The next byte received; waits for it. */
uint8_t et_board_read(void);

/* Ends the run with a code that an emulator hands on to its caller. Does not return. */
void et_board_exit(int code);

/* What the firmware does when the core traps; start.S calls it on a fresh stack. Does not return. */
void et_board_trap(uintptr_t cause, uintptr_t pc, uintptr_t value);

/* Instructions retired since reset. */
static inline uint64_t et_board_instret(void)
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

#endif
