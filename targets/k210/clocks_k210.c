/* K210: both cores on the 26 MHz oscillator, and the fast serial port on IO 4 and 5. Facts of the public SDK headers sysctl.h and
 * fpioa.h: the chip has no published register manual. */
#include "board.h"

#define ENABLE_CENTRAL ET_BOARD_REGISTER(0x50440028u)
#define ENABLE_PERIPHERALS ET_BOARD_REGISTER(0x5044002cu)
#define CLOCK_SOURCE ET_BOARD_REGISTER(0x50440020u)
#define PIN(pin) ET_BOARD_REGISTER(0x502b0000u + 4u * (pin))

#define FROM_PLL 1u
#define BUS_OF_PINS (UINT32_C(1) << 3)
#define PINS (UINT32_C(1) << 20)
#define RECEIVE_WITH_INPUT (18u | (UINT32_C(1) << 20) | (UINT32_C(1) << 23))
#define SEND_WITH_OUTPUT (19u | (UINT32_C(15) << 8) | (UINT32_C(1) << 12))

void et_board_clocks(void)
{
    CLOCK_SOURCE &= ~FROM_PLL;
    ENABLE_CENTRAL |= BUS_OF_PINS;
    ENABLE_PERIPHERALS |= PINS;
    PIN(4u) = RECEIVE_WITH_INPUT;
    PIN(5u) = SEND_WITH_OUTPUT;
}
