/* ESP32-P4: technical reference manual, chapters on watchdogs. The core stays on the crystal that it came out of the ROM with:
 * the registers that start the PLL are not public. */
#include "espressif.h"

#define SUPER_WATCHDOG_FEED (UINT32_C(1) << 18)

void et_board_clocks(void)
{
    et_watchdog_off(0x50116000u, 0x50116018u);
    et_watchdog_off(0x500c2048u, 0x500c2064u);
    et_watchdog_off(0x500c3048u, 0x500c3064u);
    et_watchdog_feeds_itself(0x5011601cu, 0x50116020u, ET_WATCHDOG_KEY, SUPER_WATCHDOG_FEED);
}
