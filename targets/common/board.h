/* What a board gives to the firmware. start.S calls main(); uart_*.c, exit_*.c, count_*.c and clocks*.c define these.
 * A board that keeps states also defines, in flash_*.c, et_flash_read(), et_flash_erase() and et_flash_program() (et_store.h). */
#ifndef ET_BOARD_H
#define ET_BOARD_H

#include <stdbool.h>
#include <stdint.h>

#include "board_config.h"

#define ET_BOARD_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Clocks, pins and the serial line. Called once, before all others. */
void et_board_init(void);

/* The part of et_board_init that is the board's own, not the serial port's: clocks, pins, watchdogs. */
void et_board_clocks(void);

/* Sends one byte; waits until the line takes it. */
void et_board_write(uint8_t byte);

/* Takes the next byte received; false where none has come. Does not wait. */
bool et_board_receive(uint8_t *byte);

/* Ends the run with a code that an emulator hands on to its caller. Does not return. */
void et_board_exit(int code);

/* What the firmware does when the core traps; start.S calls it on a fresh stack. Does not return. */
void et_board_trap(uintptr_t cause, uintptr_t pc, uintptr_t value);

/* Instructions retired since reset; 0 on a core that counts none. */
uint64_t et_board_instret(void);

#endif
