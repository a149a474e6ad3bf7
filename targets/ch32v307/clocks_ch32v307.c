/* CH32V307: the 8 MHz RC oscillator multiplied to 96 MHz, and USART1 on PA9 and PA10. Reference manual CH32FV2x_V3xRM, chapters
 * 3 (RCC), 10 (GPIO) and 32 (EXTEN). */
#include "board.h"

#define CONTROL ET_BOARD_REGISTER(0x40021000u)
#define CONFIG ET_BOARD_REGISTER(0x40021004u)
#define ENABLE_APB2 ET_BOARD_REGISTER(0x40021018u)
#define EXTENDED ET_BOARD_REGISTER(0x40023800u)
#define PINS_8_TO_15 ET_BOARD_REGISTER(0x40010804u)

#define OSCILLATOR_NOT_HALVED (UINT32_C(1) << 4)
#define PLL_ON (UINT32_C(1) << 24)
#define PLL_READY (UINT32_C(1) << 25)
#define TIMES_12 (UINT32_C(10) << 18)
#define APB1_HALVED (UINT32_C(4) << 8)
#define FROM_PLL 2u
#define PLL_IS_SOURCE (UINT32_C(2) << 2)
#define SOURCE (UINT32_C(3) << 2)
#define PORT_A (UINT32_C(1) << 2)
#define USART1 (UINT32_C(1) << 14)
#define PIN_9_AND_10 (UINT32_C(0xff) << 4)
#define OUTPUT_9_INPUT_10 (UINT32_C(0x4b) << 4)

void et_board_clocks(void)
{
    EXTENDED |= OSCILLATOR_NOT_HALVED;
    CONFIG = TIMES_12 | APB1_HALVED;
    CONTROL |= PLL_ON;
    while ((CONTROL & PLL_READY) == 0) {
    }
    CONFIG |= FROM_PLL;
    while ((CONFIG & SOURCE) != PLL_IS_SOURCE) {
    }
    ENABLE_APB2 |= PORT_A | USART1;
    PINS_8_TO_15 = (PINS_8_TO_15 & ~PIN_9_AND_10) | OUTPUT_9_INPUT_10;
}
