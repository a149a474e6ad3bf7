/* The console of a debugger as the serial line, for boards without a documented port. The debugger must be attached. */
#include "board.h"
#include "semihosting.h"

#define SYS_WRITEC 0x03u
#define SYS_READC 0x07u

void et_board_init(void)
{
    et_board_clocks();
}

void et_board_write(uint8_t byte)
{
    (void)et_semihosting(SYS_WRITEC, &byte);
}

/* The debugger cannot be asked whether there is one: this waits. */
bool et_board_receive(uint8_t *byte)
{
    *byte = (uint8_t)et_semihosting(SYS_READC, 0);
    return true;
}
