/* The end of a run on a board by itself: nobody takes the code, so the core sleeps until reset. */
#include "board.h"

void et_board_exit(int code)
{
    (void)code;
    for (;;)
        __asm__ volatile("wfi");
}
