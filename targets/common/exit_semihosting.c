/* The end of a run through semihosting: an emulator or a debugger takes the code. Without one the core waits forever. */
#include "board.h"

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
        register uintptr_t operation __asm__("a0") = SYS_EXIT_EXTENDED;
        register const uintptr_t *argument __asm__("a1") = block;
        /* These three, uncompressed and on one page, are the call. */
        __asm__ volatile(".option push\n"
                         ".option norvc\n"
                         ".balign 16\n"
                         "slli x0, x0, 0x1f\n"
                         "ebreak\n"
                         "srai x0, x0, 7\n"
                         ".option pop"
                         : "+r"(operation)
                         : "r"(argument)
                         : "memory");
    }
    for (;;)
        __asm__ volatile("wfi");
}
