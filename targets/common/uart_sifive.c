/* UART0 of the SiFive FE310, 115200 baud from the 16 MHz crystal (FE310-G000 manual, chapters 6, 17 and 18). */
#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define CLOCK_CRYSTAL REGISTER(0x10008004u)
#define CLOCK_PLL REGISTER(0x10008008u)
#define GPIO_FUNCTION_ON REGISTER(0x10012038u)
#define GPIO_FUNCTION_SECOND REGISTER(0x1001203Cu)
#define UART_SEND REGISTER(0x10013000u)
#define UART_RECEIVE REGISTER(0x10013004u)
#define UART_SEND_CONTROL REGISTER(0x10013008u)
#define UART_RECEIVE_CONTROL REGISTER(0x1001300Cu)
#define UART_DIVISOR REGISTER(0x10013018u)

#define BUSY 0x80000000u /* sending: full; receiving: empty */
#define CRYSTAL_ON (1u << 30)
#define CRYSTAL_READY (1u << 31)
#define PLL_SELECT (1u << 16)
#define PLL_FROM_CRYSTAL (1u << 17)
#define PLL_BYPASS (1u << 18)
#define UART_PINS ((1u << 16) | (1u << 17))

void board_start(void)
{
    CLOCK_CRYSTAL |= CRYSTAL_ON;
    while ((CLOCK_CRYSTAL & CRYSTAL_READY) == 0) {
    }
    CLOCK_PLL |= PLL_FROM_CRYSTAL | PLL_BYPASS;
    CLOCK_PLL |= PLL_SELECT;
    GPIO_FUNCTION_SECOND &= ~UART_PINS;
    GPIO_FUNCTION_ON |= UART_PINS;
    UART_DIVISOR = 16000000u / 115200u - 1u;
    UART_SEND_CONTROL = 1;
    UART_RECEIVE_CONTROL = 1;
}

void board_send(const uint8_t *bytes, size_t count)
{
    for (; count > 0; count--) {
        while ((UART_SEND & BUSY) != 0) {
        }
        UART_SEND = *bytes++;
    }
}

uint8_t board_receive(void)
{
    for (;;) {
        const uint32_t value = UART_RECEIVE;
        if ((value & BUSY) == 0)
            return (uint8_t)value;
    }
}
