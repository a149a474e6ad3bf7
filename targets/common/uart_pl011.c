/* Arm's PrimeCell UART (PL011), as the RP2350 has it: technical reference manual DDI 0183, chapter 3. */
#include "board.h"

#define DATA ET_BOARD_REGISTER(ET_BOARD_UART + 0x00u)
#define FLAGS ET_BOARD_REGISTER(ET_BOARD_UART + 0x18u)
#define DIVISOR ET_BOARD_REGISTER(ET_BOARD_UART + 0x24u)
#define DIVISOR_64THS ET_BOARD_REGISTER(ET_BOARD_UART + 0x28u)
#define LINE ET_BOARD_REGISTER(ET_BOARD_UART + 0x2cu)
#define CONTROL ET_BOARD_REGISTER(ET_BOARD_UART + 0x30u)

#define EMPTY (UINT32_C(1) << 4)
#define FULL (UINT32_C(1) << 5)
#define EIGHT_BITS_WITH_FIFO 0x70u
#define ENABLE_BOTH 0x301u
/* The sender samples 16 times per bit; the divisor is in 64ths. */
#define DIVIDED ((4u * ET_BOARD_UART_HZ + ET_BOARD_BAUD / 2u) / ET_BOARD_BAUD)

void et_board_init(void)
{
    et_board_clocks();
    DIVISOR = DIVIDED >> 6;
    DIVISOR_64THS = DIVIDED & 63u;
    LINE = EIGHT_BITS_WITH_FIFO; /* also takes the divisors over */
    CONTROL = ENABLE_BOTH;
}

void et_board_write(uint8_t byte)
{
    while ((FLAGS & FULL) != 0) {
    }
    DATA = byte;
}

bool et_board_receive(uint8_t *byte)
{
    if ((FLAGS & EMPTY) != 0)
        return false;
    *byte = (uint8_t)DATA;
    return true;
}
