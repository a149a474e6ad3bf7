/* The end of a program in an emulator: one that serves both Spike and QEMU's virt machine. */
#include "board.h"

#define QEMU_FINISHER (*(volatile uint32_t *)(uintptr_t)0x100000u)
#define FINISHED_WELL 0x5555u
#define FINISHED_BADLY 0x3333u

/* Spike looks at these two symbols. */
volatile uint64_t tohost __attribute__((aligned(8), used));
volatile uint64_t fromhost __attribute__((aligned(8), used));

_Noreturn void board_exit(int code)
{
    tohost = ((uint64_t)(uint32_t)code << 1) | 1u;
    for (volatile int wait = 0; wait < 20000; wait++) { /* Spike looks every 5000 instructions */
    }
    QEMU_FINISHER = code != 0 ? FINISHED_BADLY | ((uint32_t)code << 16) : FINISHED_WELL;
    for (;;) {
    }
}
