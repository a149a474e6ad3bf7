/* The block by which the boot ROM knows an image for the RISC-V cores: RP2350 datasheet, 5.9.5 "Minimum viable image
 * metadata". It holds where to start and the stack, and is a list of one block that points to itself. */
    .section .boot, "a"
    .word 0xffffded3            /* start of a block */
    .word 0x11010142            /* item: image type, 1 word: executable, RISC-V, RP2350 */
    .word 0x00000344            /* item: entry point, 3 words */
    .word _start
    .word __stack_top
    .word 0x000004ff            /* last item: 4 words before it */
    .word 0                     /* the next block is this one */
    .word 0xab123579            /* end of a block */
