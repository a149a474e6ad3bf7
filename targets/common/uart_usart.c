/* The USART that GD32VF103 and CH32V307 share: status, data, divisor, control (their reference manuals, chapter USART). */
#include "board.h"

#define STATUS ET_BOARD_REGISTER(ET_BOARD_UART + 0x00u)
#define DATA ET_BOARD_REGISTER(ET_BOARD_UART + 0x04u)
#define DIVISOR ET_BOARD_REGISTER(ET_BOARD_UART + 0x08u)
#define CONTROL ET_BOARD_REGISTER(ET_BOARD_UART + 0x0cu)

#define RECEIVED (UINT32_C(1) << 5)
#define CAN_SEND (UINT32_C(1) << 7)
#define ENABLE (UINT32_C(1) << 13)
#define SENDER (UINT32_C(1) << 3)
#define RECEIVER (UINT32_C(1) << 2)

void et_board_init(void)
{
    et_board_clocks();
    DIVISOR = (ET_BOARD_UART_HZ + ET_BOARD_BAUD / 2u) / ET_BOARD_BAUD;
    CONTROL = ENABLE | SENDER | RECEIVER;
}

void et_board_write(uint8_t byte)
{
    while ((STATUS & CAN_SEND) == 0) {
    }
    DATA = byte;
}

bool et_board_receive(uint8_t *byte)
{
    if ((STATUS & RECEIVED) == 0)
        return false;
    *byte = (uint8_t)DATA;
    return true;
}
