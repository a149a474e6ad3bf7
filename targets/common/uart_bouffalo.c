/* The serial port of the BL602: reference manual, chapter UART. */
#include "board.h"

#define SEND_CONFIG ET_BOARD_REGISTER(ET_BOARD_UART + 0x00u)
#define RECEIVE_CONFIG ET_BOARD_REGISTER(ET_BOARD_UART + 0x04u)
#define BIT_PERIOD ET_BOARD_REGISTER(ET_BOARD_UART + 0x08u)
#define FIFO_LEVELS ET_BOARD_REGISTER(ET_BOARD_UART + 0x84u)
#define WRITE ET_BOARD_REGISTER(ET_BOARD_UART + 0x88u)
#define READ ET_BOARD_REGISTER(ET_BOARD_UART + 0x8cu)

#define ENABLE 1u
#define WITHOUT_END (1u << 2)
#define EIGHT_BITS (7u << 8)
#define ONE_STOP_BIT (1u << 12)
#define FREE_TO_SEND (FIFO_LEVELS & 0x3fu)
#define RECEIVED_BYTES ((FIFO_LEVELS >> 8) & 0x3fu)

void et_board_init(void)
{
    et_board_clocks();
    const uint32_t period = (ET_BOARD_UART_HZ + ET_BOARD_BAUD / 2u) / ET_BOARD_BAUD - 1u;
    BIT_PERIOD = period | (period << 16);
    SEND_CONFIG = ENABLE | WITHOUT_END | EIGHT_BITS | ONE_STOP_BIT;
    RECEIVE_CONFIG = ENABLE | EIGHT_BITS;
}

void et_board_write(uint8_t byte)
{
    while (FREE_TO_SEND == 0) {
    }
    WRITE = byte;
}

bool et_board_receive(uint8_t *byte)
{
    if (RECEIVED_BYTES == 0)
        return false;
    *byte = (uint8_t)READ;
    return true;
}
