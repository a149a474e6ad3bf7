/* GD32VF103: the 8 MHz RC oscillator, halved and multiplied to 108 MHz, and USART0 on PA9 and PA10. User manual, chapters 5
 * (RCU) and 7 (GPIO). */
#include "board.h"

#define CONTROL ET_BOARD_REGISTER(0x40021000u)
#define CONFIG ET_BOARD_REGISTER(0x40021004u)
#define ENABLE_APB2 ET_BOARD_REGISTER(0x40021018u)
#define PINS_8_TO_15 ET_BOARD_REGISTER(0x40010804u)

#define PLL_ON (UINT32_C(1) << 24)
#define PLL_READY (UINT32_C(1) << 25)
#define TIMES_27 ((UINT32_C(1) << 29) | (UINT32_C(10) << 18)) /* 27 - 1, its fifth bit apart */
#define APB1_HALVED (UINT32_C(4) << 8)
#define FROM_PLL 2u
#define PLL_IS_SOURCE (UINT32_C(2) << 2)
#define SOURCE (UINT32_C(3) << 2)
#define PORT_A (UINT32_C(1) << 2)
#define USART0 (UINT32_C(1) << 14)
#define PIN_9_AND_10 (UINT32_C(0xff) << 4)
#define OUTPUT_9_INPUT_10 (UINT32_C(0x4b) << 4)

void et_board_clocks(void)
{
    CONFIG = TIMES_27 | APB1_HALVED;
    CONTROL |= PLL_ON;
    while ((CONTROL & PLL_READY) == 0) {
    }
    CONFIG |= FROM_PLL;
    while ((CONFIG & SOURCE) != PLL_IS_SOURCE) {
    }
    ENABLE_APB2 |= PORT_A | USART0;
    PINS_8_TO_15 = (PINS_8_TO_15 & ~PIN_9_AND_10) | OUTPUT_9_INPUT_10;
}
