/* The end of a run through semihosting: an emulator or a debugger takes the code. Without one the core waits forever. */
#include "board.h"
#include "semihosting.h"

#include <stdbool.h>

#define SYS_EXIT_EXTENDED 0x20u
#define APPLICATION_EXIT 0x20026u

void et_board_exit(int code)
{
    /* Nobody listens: the ebreak traps, and the trap handler ends up here again. */
    static bool exiting;
    if (!exiting) {
        exiting = true;
        const uintptr_t block[2] = {APPLICATION_EXIT, (uintptr_t)code};
        (void)et_semihosting(SYS_EXIT_EXTENDED, block);
    }
    for (;;)
        __asm__ volatile("wfi");
}
