/* The update register of serial ports from the ESP32-C6 on: technical reference manual, chapter UART. */
#include "espressif.h"

#define UPDATE ET_BOARD_REGISTER(ET_BOARD_UART + 0x98u)

void et_board_uart_update(void)
{
    UPDATE = 1;
    while ((UPDATE & 1u) != 0) {
    }
}
