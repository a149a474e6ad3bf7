/* A machine that starts with its clocks and pins as they are needed. */
#include "board.h"

void et_board_clocks(void)
{
}
