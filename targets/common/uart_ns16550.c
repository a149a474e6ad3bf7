/* A serial port of the NS16550A kind with registers of one byte, as QEMU's and Spike's virt machine has. */
#include "board.h"

#define DATA (*(volatile uint8_t *)(uintptr_t)(ET_BOARD_UART + 0u))
#define FIFO_CONTROL (*(volatile uint8_t *)(uintptr_t)(ET_BOARD_UART + 2u))
#define LINE_STATUS (*(volatile uint8_t *)(uintptr_t)(ET_BOARD_UART + 5u))

#define FIFO_ON_EMPTY_TRIGGER_14 0xC7u
#define RECEIVED 0x01u
#define CAN_SEND 0x20u

void et_board_init(void)
{
    et_board_clocks();
    FIFO_CONTROL = FIFO_ON_EMPTY_TRIGGER_14;
}

void et_board_write(uint8_t byte)
{
    while ((LINE_STATUS & CAN_SEND) == 0) {
    }
    DATA = byte;
}

bool et_board_receive(uint8_t *byte)
{
    if ((LINE_STATUS & RECEIVED) == 0)
        return false;
    *byte = DATA;
    return true;
}
