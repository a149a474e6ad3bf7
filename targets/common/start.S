/* From reset to main(): registers, trap vector, floating point, .data, .bss, and paint on all RAM after it, so that what
 * was never touched can be told later. Symbols come from the linker script. */
    .section .init, "ax"
    .globl _start
_start:
    .option push
    .option norelax
    la   gp, __global_pointer$
    .option pop
    la   sp, __stack_top

    /* FS and VS to Initial: cores without them ignore it. */
    li   t0, (1 << 13) | (1 << 9)
    csrs mstatus, t0

    /* mcountinhibit = 0 lets instructions be counted. Older cores have no such register: the trap lands behind it. */
    la   t0, counting
    csrw mtvec, t0
    csrwi 0x320, 0
    .balign 4
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

    la   t1, __paint_start
    li   t0, 0xA5A5A5A5
paint_next:
    bgeu t1, sp, paint_done
    sw   t0, 0(t1)
    addi t1, t1, 4
    j    paint_next
paint_done:

    call main
    call et_board_exit
forever:
    wfi
    j    forever

    .balign 4
trap_entry:
    csrr a0, mcause
    csrr a1, mepc
    csrr a2, mtval
    la   sp, __stack_top
    call et_board_trap
    j    forever
