/* SiFive's serial port: FE310-G000 manual, chapter 18. The K210 has the same one as UARTHS. */
#include "board.h"

#define SEND ET_BOARD_REGISTER(ET_BOARD_UART + 0x00u)
#define RECEIVE ET_BOARD_REGISTER(ET_BOARD_UART + 0x04u)
#define SEND_CONTROL ET_BOARD_REGISTER(ET_BOARD_UART + 0x08u)
#define RECEIVE_CONTROL ET_BOARD_REGISTER(ET_BOARD_UART + 0x0cu)
#define DIVISOR ET_BOARD_REGISTER(ET_BOARD_UART + 0x18u)
#define FULL_OR_EMPTY (UINT32_C(1) << 31)

void et_board_init(void)
{
    et_board_clocks();
    DIVISOR = (ET_BOARD_UART_HZ + ET_BOARD_BAUD / 2u) / ET_BOARD_BAUD - 1u;
    SEND_CONTROL = 1;
    RECEIVE_CONTROL = 1;
}

void et_board_write(uint8_t byte)
{
    while ((SEND & FULL_OR_EMPTY) != 0) {
    }
    SEND = byte;
}

bool et_board_receive(uint8_t *byte)
{
    const uint32_t value = RECEIVE; /* tells both: a byte, or that there is none */
    *byte = (uint8_t)value;
    return (value & FULL_OR_EMPTY) == 0;
}
