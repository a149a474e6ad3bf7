/* Direct boot: ROMs from revision 3 on that find this word twice at the start of the flash map it, and jump behind. */
    .section .boot, "ax"
    .word 0xaedb041d
    .word 0xaedb041d
    j _start
