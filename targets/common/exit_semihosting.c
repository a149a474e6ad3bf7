/* The end of a program by semihosting, where a debugger or an emulator listens; without one, the breakpoint traps for
 * good. */
#include "board.h"

#define SYS_EXIT_EXTENDED 0x20u
#define APPLICATION_EXIT 0x20026u

_Noreturn void board_exit(int code)
{
    const volatile uintptr_t block[2] = {APPLICATION_EXIT, (uintptr_t)code};
    register uintptr_t a0 __asm__("a0") = SYS_EXIT_EXTENDED;
    register uintptr_t a1 __asm__("a1") = (uintptr_t)block;
    /* These three, uncompressed and in one line of memory, are the call. */
    __asm__ volatile(".option push\n"
                     ".option norvc\n"
                     ".balign 16\n"
                     "slli x0, x0, 0x1f\n"
                     "ebreak\n"
                     "srai x0, x0, 7\n"
                     ".option pop\n"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    for (;;) {
    }
}
