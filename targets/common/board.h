/* What a board's own files give to main.c. */
#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

/* Clocks and UART. */
void board_start(void);

/* Sends bytes; waits while the UART is full. */
void board_send(const uint8_t *bytes, size_t count);

/* The next byte; waits for it. */
uint8_t board_receive(void);

/* Ends the program where there is somebody to tell (an emulator), else stops. */
_Noreturn void board_exit(int code);

/* Instructions retired since reset. */
uint64_t board_instructions(void);

/* From the linker script. Start-up code paints [free_start, stack_top) with BOARD_PAINT, so that the deepest use of the
 * stack can be read afterwards. */
extern uint32_t __free_start[], __stack_limit[], __stack_top[];
#define BOARD_PAINT 0xA5A5A5A5u

#endif
