/* uintptr_t et_rom_call(uintptr_t function, uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d)
 * Calls a function of the chip's ROM. All such calls go through here, for whoever counts the stack cannot look into a ROM: it
 * adds a fixed amount to what calls this. */
    .section .text.et_rom_call, "ax"
    .balign 4
    .globl et_rom_call
    .type et_rom_call, @function
et_rom_call:
    addi sp, sp, -16
#if __riscv_xlen == 64
    sd   ra, 0(sp)
#else
    sw   ra, 0(sp)
#endif
    mv   t0, a0
    mv   a0, a1
    mv   a1, a2
    mv   a2, a3
    mv   a3, a4
    jalr t0
#if __riscv_xlen == 64
    ld   ra, 0(sp)
#else
    lw   ra, 0(sp)
#endif
    addi sp, sp, 16
    ret
    .size et_rom_call, . - et_rom_call
