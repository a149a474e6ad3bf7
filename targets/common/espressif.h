/* What the ESP32s with RISC-V cores do alike, and where they differ. */
#ifndef ET_ESPRESSIF_H
#define ET_ESPRESSIF_H

#include "board.h"

/* Carries the serial port's settings over to its own clock; the register differs from chip to chip. */
void et_board_uart_update(void);

#define ET_WATCHDOG_KEY 0x50d83aa1u

/* Unlocks a watchdog and switches it off. */
static inline void et_watchdog_off(uintptr_t config, uintptr_t lock)
{
    ET_BOARD_REGISTER(lock) = ET_WATCHDOG_KEY;
    ET_BOARD_REGISTER(config) = 0;
    ET_BOARD_REGISTER(lock) = 0;
}

/* The "super" watchdog cannot be switched off, but feeds itself if told to. */
static inline void et_watchdog_feeds_itself(uintptr_t config, uintptr_t lock, uint32_t key, uint32_t feed)
{
    ET_BOARD_REGISTER(lock) = key;
    ET_BOARD_REGISTER(config) |= feed;
    ET_BOARD_REGISTER(lock) = 0;
}

#endif
