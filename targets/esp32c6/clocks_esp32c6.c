/* ESP32-C6: technical reference manual, chapters on watchdogs. The core stays on the crystal that it came out of the ROM with:
 * the registers that start the PLL are not public. */
#include "espressif.h"

#define UART_CLOCK ET_BOARD_REGISTER(0x60096004u)
#define CRYSTAL_UNDIVIDED ((UINT32_C(3) << 20) | (UINT32_C(1) << 22)) /* and on */
#define SUPER_WATCHDOG_FEED (UINT32_C(1) << 18)

void et_board_clocks(void)
{
    UART_CLOCK = CRYSTAL_UNDIVIDED;
    et_watchdog_off(0x600b1c00u, 0x600b1c18u);
    et_watchdog_off(0x60008048u, 0x60008064u);
    et_watchdog_off(0x60009048u, 0x60009064u);
    et_watchdog_feeds_itself(0x600b1c1cu, 0x600b1c20u, ET_WATCHDOG_KEY, SUPER_WATCHDOG_FEED);
}
