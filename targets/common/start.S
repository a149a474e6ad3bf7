/* Start of a RISC-V firmware: registers, .data, .bss, painted RAM, main; and the end of one that traps. */

#if __riscv_xlen == 64
#define LOAD ld
#define STORE sd
#define WORD 8
#else
#define LOAD lw
#define STORE sw
#define WORD 4
#endif

    .section .init, "ax"
    .globl _start
_start:
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, __stack_top

    /* Floating point and vectors on; cores without them ignore these bits. */
    li t0, (1 << 13) | (1 << 9)
    csrs mstatus, t0

    /* Counters on. Cores made to the privileged manual 1.10 have no mcountinhibit: the trap skips the write. */
    la t0, counters_run
    csrw mtvec, t0
    csrwi 0x320, 0
    .balign 4
counters_run:
    la t0, trap
    csrw mtvec, t0

    la t0, __data_load
    la t1, __data_start
    la t2, __data_end
    beq t0, t1, clear_bss
copy_data:
    bgeu t1, t2, clear_bss
    lw t3, 0(t0)
    sw t3, 0(t1)
    addi t0, t0, 4
    addi t1, t1, 4
    j copy_data

clear_bss:
    la t1, __bss_start
    la t2, __bss_end
clear_next:
    bgeu t1, t2, paint
    sw zero, 0(t1)
    addi t1, t1, 4
    j clear_next

paint:
    la t1, __free_start
    la t2, __stack_top
    li t3, 0xA5A5A5A5
paint_next:
    bgeu t1, t2, run
    sw t3, 0(t1)
    addi t1, t1, 4
    j paint_next

run:
    call main
    call board_exit
stop:
    j stop

/* Keeps what happened where a debugger finds it, and ends with 99. */
    .balign 4
trap:
    la t0, board_trap
    csrr t1, mcause
    STORE t1, 0(t0)
    csrr t1, mepc
    STORE t1, WORD(t0)
    csrr t1, mtval
    STORE t1, 2 * WORD(t0)
    la sp, __stack_top
    li a0, 99
    call board_exit
    j stop

    .section .bss
    .balign 8
    .globl board_trap
board_trap: /* cause, address of the instruction, value */
    .space 3 * WORD
