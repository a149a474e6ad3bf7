/* Calls to a debugger or an emulator, by the numbers of "Semihosting for AArch32 and AArch64" (Arm). */
#ifndef ET_SEMIHOSTING_H
#define ET_SEMIHOSTING_H

#include <stdint.h>

uintptr_t et_semihosting(uintptr_t number, const void *block);

#endif
