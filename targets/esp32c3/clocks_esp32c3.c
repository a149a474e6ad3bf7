/* ESP32-C3: technical reference manual, chapters 6 (clock), 12 (timer group watchdogs), 9 (low-power watchdogs), 26 (UART).
 * The core runs on the crystal: the registers that start the PLL are not public. */
#include "espressif.h"

#define SYSTEM_CLOCK ET_BOARD_REGISTER(0x600c0058u)
#define CRYSTAL_UNDIVIDED 0u
#define SUPER_WATCHDOG_KEY 0x8f1d312au
#define SUPER_WATCHDOG_FEED (UINT32_C(1) << 31)
#define UART_CLOCK ET_BOARD_REGISTER(ET_BOARD_UART + 0x78u)
/* Crystal, not divided further (from reset it is halved), on for the port, its sender and its receiver. */
#define UART_CRYSTAL_UNDIVIDED ((UINT32_C(3) << 20) | (UINT32_C(1) << 22) | (UINT32_C(1) << 24) | (UINT32_C(1) << 25))
#define UART_UPDATE ET_BOARD_REGISTER(ET_BOARD_UART + 0x80u)

void et_board_clocks(void)
{
    SYSTEM_CLOCK = CRYSTAL_UNDIVIDED;
    UART_CLOCK = UART_CRYSTAL_UNDIVIDED;
    et_watchdog_off(0x60008090u, 0x600080a8u);
    et_watchdog_off(0x6001f048u, 0x6001f064u);
    et_watchdog_off(0x60020048u, 0x60020064u);
    et_watchdog_feeds_itself(0x600080acu, 0x600080b0u, SUPER_WATCHDOG_KEY, SUPER_WATCHDOG_FEED);
}

void et_board_uart_update(void)
{
    UART_UPDATE |= UINT32_C(1) << 31;
    while ((UART_UPDATE >> 31) != 0) {
    }
}
