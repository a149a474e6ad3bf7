/* The four functions that a compiler may call for plain C (GCC manual, "Standards": freestanding environments). */
#include <stddef.h>

void *memcpy(void *to, const void *from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *first, const void *second, size_t bytes);

/* Keeps the compiler from seeing a memcpy in the loop of memcpy, and calling it. */
#define NOT_A_CALL() __asm__ volatile("")

void *memcpy(void *to, const void *from, size_t bytes)
{
    unsigned char *destination = to;
    const unsigned char *source = from;
    for (size_t i = 0; i < bytes; i++) {
        NOT_A_CALL();
        destination[i] = source[i];
    }
    return to;
}

void *memmove(void *to, const void *from, size_t bytes)
{
    unsigned char *destination = to;
    const unsigned char *source = from;
    if (destination < source)
        return memcpy(to, from, bytes);
    for (size_t i = bytes; i > 0; i--) {
        NOT_A_CALL();
        destination[i - 1] = source[i - 1];
    }
    return to;
}

void *memset(void *to, int value, size_t bytes)
{
    unsigned char *destination = to;
    for (size_t i = 0; i < bytes; i++) {
        NOT_A_CALL();
        destination[i] = (unsigned char)value;
    }
    return to;
}

int memcmp(const void *first, const void *second, size_t bytes)
{
    const unsigned char *a = first;
    const unsigned char *b = second;
    for (size_t i = 0; i < bytes; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}
