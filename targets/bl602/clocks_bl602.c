/* BL602: the 32 MHz RC oscillator, undivided, and UART0 on GPIO 16 and 7. Reference manual, chapters 3 (GLB, clocks) and 4
 * (GPIO). */
#include "board.h"

#define DIVIDERS ET_BOARD_REGISTER(0x40000000u)
#define UART_CLOCK ET_BOARD_REGISTER(0x40000008u)
#define SOURCES ET_BOARD_REGISTER(0x4000f030u)
#define UART_SIGNALS ET_BOARD_REGISTER(0x400000c0u)
#define PINS(pin) ET_BOARD_REGISTER(0x40000100u + 4u * ((pin) / 2u)) /* two pins of 16 bits each */

#define BOTH_DIVIDERS 0x00ffff00u
#define UART_UNDIVIDED_ON 0x10u
#define UART_DIVIDER 0x07u
#define SENDER 16u
#define RECEIVER 7u
#define FUNCTION_UART_WITH_INPUT 0x0713u /* function 7, pull-up, Schmitt trigger, input on */
#define SIGNAL(pin, function) ((uint32_t)(function) << (4u * ((pin) % 8u)))
#define SENDS 2u
#define RECEIVES 3u

static void set_pin(uint32_t pin)
{
    const uint32_t shift = 16u * (pin % 2u);
    PINS(pin) = (PINS(pin) & ~(UINT32_C(0xffff) << shift)) | ((uint32_t)FUNCTION_UART_WITH_INPUT << shift);
}

void et_board_clocks(void)
{
    SOURCES &= ~UINT32_C(7); /* the RC oscillator, and the core's clock for the serial port */
    DIVIDERS &= ~BOTH_DIVIDERS;
    UART_CLOCK = (UART_CLOCK & ~UART_DIVIDER) | UART_UNDIVIDED_ON;
    set_pin(SENDER);
    set_pin(RECEIVER);
    UART_SIGNALS = (UART_SIGNALS & ~(SIGNAL(SENDER, 15u) | SIGNAL(RECEIVER, 15u))) | SIGNAL(SENDER, SENDS) |
                   SIGNAL(RECEIVER, RECEIVES);
}
