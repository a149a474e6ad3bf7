/* RP2350: the 12 MHz crystal, multiplied to 150 MHz, and UART0 on GPIO 0 and 1. Datasheet, chapters 7 (resets), 8 (clocks), 9
 * (GPIO). */
#include "board.h"

#define RESETS 0x40020000u
#define RESET_DONE (RESETS + 8u)
#define CLEAR_BITS 0x3000u /* added to an address, a write clears the bits that are set in it */
#define IO_BANK (UINT32_C(1) << 6)
#define PADS_BANK (UINT32_C(1) << 9)
#define PLL_SYS (UINT32_C(1) << 14)
#define UART0 (UINT32_C(1) << 26)

#define CRYSTAL_CONTROL ET_BOARD_REGISTER(0x40048000u)
#define CRYSTAL_STATUS ET_BOARD_REGISTER(0x40048004u)
#define CRYSTAL_DELAY ET_BOARD_REGISTER(0x4004800cu)
#define CRYSTAL_ON_1_TO_15_MHZ 0x00fabaa0u
#define STABLE (UINT32_C(1) << 31)
#define DELAY_1_MS 47u /* in 256 cycles of 12 MHz */

#define PLL_STATUS ET_BOARD_REGISTER(0x40050000u)
#define PLL_POWER ET_BOARD_REGISTER(0x40050004u)
#define PLL_FEEDBACK ET_BOARD_REGISTER(0x40050008u)
#define PLL_DIVIDERS ET_BOARD_REGISTER(0x4005000cu)
#define POWER_DOWN 0x01u
#define NO_FRACTIONS 0x04u
#define DIVIDERS_DOWN 0x08u
#define OSCILLATOR_DOWN 0x20u
#define TIMES_125 125u
#define BY_5_AND_2 ((5u << 16) | (2u << 12))

#define REFERENCE_CLOCK ET_BOARD_REGISTER(0x40010030u)
#define REFERENCE_SELECTED ET_BOARD_REGISTER(0x40010038u)
#define SYSTEM_CLOCK ET_BOARD_REGISTER(0x4001003cu)
#define SYSTEM_SELECTED ET_BOARD_REGISTER(0x40010044u)
#define PERIPHERAL_CLOCK ET_BOARD_REGISTER(0x40010048u)
#define FROM_CRYSTAL 2u
#define FROM_PLL 1u
#define ENABLE_FROM_SYSTEM (UINT32_C(1) << 11)

#define PIN_FUNCTION(pin) ET_BOARD_REGISTER(0x40028004u + 8u * (pin))
#define PAD(pin) ET_BOARD_REGISTER(0x40038004u + 4u * (pin))
#define FUNCTION_UART 2u
#define CONNECTED_INPUT_4_MA 0x52u

static void start_block(uint32_t block)
{
    ET_BOARD_REGISTER(RESETS + CLEAR_BITS) = block;
    while ((ET_BOARD_REGISTER(RESET_DONE) & block) != block) {
    }
}

static void start_clock(void)
{
    CRYSTAL_DELAY = DELAY_1_MS;
    CRYSTAL_CONTROL = CRYSTAL_ON_1_TO_15_MHZ;
    while ((CRYSTAL_STATUS & STABLE) == 0) {
    }
    REFERENCE_CLOCK = FROM_CRYSTAL;
    while ((REFERENCE_SELECTED & (1u << FROM_CRYSTAL)) == 0) {
    }
    SYSTEM_CLOCK = 0; /* from the reference, while the PLL starts anew */
    while ((SYSTEM_SELECTED & 1u) == 0) {
    }
    start_block(PLL_SYS);
    PLL_POWER = POWER_DOWN | NO_FRACTIONS | DIVIDERS_DOWN | OSCILLATOR_DOWN;
    PLL_STATUS = 1; /* the crystal as it is */
    PLL_FEEDBACK = TIMES_125;
    PLL_POWER = NO_FRACTIONS | DIVIDERS_DOWN;
    while ((PLL_STATUS >> 31) == 0) {
    }
    PLL_DIVIDERS = BY_5_AND_2;
    PLL_POWER = NO_FRACTIONS;
    SYSTEM_CLOCK = FROM_PLL;
    while ((SYSTEM_SELECTED & (1u << FROM_PLL)) == 0) {
    }
    PERIPHERAL_CLOCK = ENABLE_FROM_SYSTEM;
}

void et_board_clocks(void)
{
    start_clock();
    start_block(IO_BANK | PADS_BANK | UART0);
    for (uint32_t pin = 0; pin < 2; pin++) {
        PIN_FUNCTION(pin) = FUNCTION_UART;
        PAD(pin) = CONNECTED_INPUT_4_MA;
    }
}
