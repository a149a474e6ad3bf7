/* From reset to main(): registers, trap vector, floating point, .data, .bss, and paint on params, arena, what is left between
 * them, and the free RAM up to the stack, so that what was never touched can be told later. Symbols come from the linker script. */
#include "board_config.h"

    .macro paint first, last
    la   t1, \first
    la   t2, \last
1:  bgeu t1, t2, 2f
    sw   t0, 0(t1)
    addi t1, t1, 4
    j    1b
2:
    .endm

    .section .init, "ax"
    .globl _start
_start:
    .option push
    .option norelax
#if __riscv_xlen == 32
    /* Some chips begin in a mirror of their flash at 0: go on at the address that all was linked for. */
    lui  t0, %hi(linked)
    jalr zero, %lo(linked)(t0)
linked:
#endif
    la   gp, __global_pointer$
    .option pop
#if ET_BOARD_HARTS > 1
    csrr t0, mhartid
    bnez t0, forever
#endif
    la   sp, __stack_top

    /* FS and VS to Initial: cores without them ignore it. */
    li   t0, (1 << 13) | (1 << 9)
    csrs mstatus, t0

    /* mcountinhibit = 0 lets instructions be counted. Older cores have no such register: the trap lands behind it.
     * Handlers are aligned to 256 bytes: some cores read a mode from the six lowest bits of mtvec, those of Espressif have
     * none of the eight lowest. */
    la   t0, counting
    csrw mtvec, t0
    csrwi 0x320, 0
    .balign 256
counting:
    la   t0, trap_entry
    csrw mtvec, t0

    la   t0, __data_lma
    la   t1, __data_start
    la   t2, __data_end
    beq  t0, t1, data_done
data_next:
    bgeu t1, t2, data_done
    lw   t3, 0(t0)
    sw   t3, 0(t1)
    addi t0, t0, 4
    addi t1, t1, 4
    j    data_next
data_done:

    la   t1, __bss_start
    la   t2, __bss_end
bss_next:
    bgeu t1, t2, bss_done
    sw   zero, 0(t1)
    addi t1, t1, 4
    j    bss_next
bss_done:

    li   t0, 0xA5A5A5A5
    paint et_params_start, __params_painted
    paint et_arena_start, __arena_painted
    paint __free_start, __stack_top

    call main
    call et_board_exit
forever:
    wfi
    j    forever

    .balign 256
trap_entry:
    csrr a0, mcause
    csrr a1, mepc
    csrr a2, mtval
    la   sp, __stack_top
    call et_board_trap
    j    forever
