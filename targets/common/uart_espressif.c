/* The serial port of the ESP32s with RISC-V cores: technical reference manuals, chapter UART. The ROM has set pins, source
 * clock (the crystal) and frame format for its own messages; the divisor is set here all the same. */
#include "board.h"
#include "espressif.h"

#define FIFO ET_BOARD_REGISTER(ET_BOARD_UART + 0x00u)
#define DIVISOR ET_BOARD_REGISTER(ET_BOARD_UART + 0x14u)
#define STATUS ET_BOARD_REGISTER(ET_BOARD_UART + 0x1cu)

#define FIFO_BYTES 128u
#define RECEIVED_BYTES (STATUS & 0xffu)
#define WAITING_BYTES ((STATUS >> 16) & 0xffu)
/* The divisor has 12 bits before the point and 4 behind it. */
#define SIXTEENTHS ((16u * ET_BOARD_UART_HZ + ET_BOARD_BAUD / 2u) / ET_BOARD_BAUD)

void et_board_init(void)
{
    et_board_clocks();
    DIVISOR = (SIXTEENTHS >> 4) | ((SIXTEENTHS & 15u) << 20);
    et_board_uart_update();
}

void et_board_write(uint8_t byte)
{
    while (WAITING_BYTES >= FIFO_BYTES - 1u) {
    }
    FIFO = byte;
}

bool et_board_receive(uint8_t *byte)
{
    if (RECEIVED_BYTES == 0)
        return false;
    *byte = (uint8_t)FIFO;
    return true;
}
