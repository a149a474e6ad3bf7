/* The call to a debugger or an emulator: three instructions, uncompressed and on one page. The number is in a0, the block in a1. */
    .section .text.et_semihosting, "ax"
    .balign 16
    .globl et_semihosting
    .type et_semihosting, @function
et_semihosting:
    .option push
    .option norvc
    slli x0, x0, 0x1f
    ebreak
    srai x0, x0, 7
    .option pop
    ret
    .size et_semihosting, . - et_semihosting
