/* UART0 of SiFive's FE310, clocked by the board's 16 MHz crystal. Registers: FE310-G000 manual, chapters 6, 17 and 18. */
#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

#define CRYSTAL REGISTER(0x10008004u)
#define PLL REGISTER(0x10008008u)
#define CRYSTAL_ON (UINT32_C(1) << 30)
#define CRYSTAL_READY (UINT32_C(1) << 31)
#define PLL_SELECTED (UINT32_C(1) << 16)
#define PLL_FROM_CRYSTAL (UINT32_C(1) << 17)
#define PLL_BYPASSED (UINT32_C(1) << 18)

#define PIN_FUNCTION_ON REGISTER(0x10012038u)
#define PIN_FUNCTION_CHOICE REGISTER(0x1001203cu)
#define UART_PINS (UINT32_C(3) << 16)

#define SEND REGISTER(0x10013000u)
#define RECEIVE REGISTER(0x10013004u)
#define SEND_CONTROL REGISTER(0x10013008u)
#define RECEIVE_CONTROL REGISTER(0x1001300cu)
#define DIVISOR REGISTER(0x10013018u)
#define FULL_OR_EMPTY (UINT32_C(1) << 31)

#define CLOCK_HZ 16000000u
#define BAUD 115200u

void et_board_init(void)
{
    CRYSTAL = CRYSTAL_ON;
    while ((CRYSTAL & CRYSTAL_READY) == 0) {
    }
    PLL = PLL_SELECTED | PLL_FROM_CRYSTAL | PLL_BYPASSED;
    PIN_FUNCTION_CHOICE &= ~UART_PINS;
    PIN_FUNCTION_ON |= UART_PINS;
    DIVISOR = (CLOCK_HZ + BAUD / 2u) / BAUD - 1u;
    SEND_CONTROL = 1;
    RECEIVE_CONTROL = 1;
}

void et_board_write(uint8_t byte)
{
    while ((SEND & FULL_OR_EMPTY) != 0) {
    }
    SEND = byte;
}

uint8_t et_board_read(void)
{
    uint32_t value;
    do {
        value = RECEIVE;
    } while ((value & FULL_OR_EMPTY) != 0);
    return (uint8_t)value;
}
