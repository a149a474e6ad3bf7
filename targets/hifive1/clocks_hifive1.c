/* The 16 MHz crystal of the HiFive1 and the pins of UART0. FE310-G000 manual, chapters 6 and 17. */
#include "board.h"

#define CRYSTAL ET_BOARD_REGISTER(0x10008004u)
#define PLL ET_BOARD_REGISTER(0x10008008u)
#define CRYSTAL_ON (UINT32_C(1) << 30)
#define CRYSTAL_READY (UINT32_C(1) << 31)
#define PLL_SELECTED (UINT32_C(1) << 16)
#define PLL_FROM_CRYSTAL (UINT32_C(1) << 17)
#define PLL_BYPASSED (UINT32_C(1) << 18)

#define PIN_FUNCTION_ON ET_BOARD_REGISTER(0x10012038u)
#define PIN_FUNCTION_CHOICE ET_BOARD_REGISTER(0x1001203cu)
#define UART_PINS (UINT32_C(3) << 16)

void et_board_clocks(void)
{
    CRYSTAL = CRYSTAL_ON;
    while ((CRYSTAL & CRYSTAL_READY) == 0) {
    }
    PLL = PLL_SELECTED | PLL_FROM_CRYSTAL | PLL_BYPASSED;
    PIN_FUNCTION_CHOICE &= ~UART_PINS;
    PIN_FUNCTION_ON |= UART_PINS;
}
