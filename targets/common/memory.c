/* The four functions that compilers call on their own, for firmware without a C library. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *to, int value, size_t count);
int memcmp(const void *a, const void *b, size_t count);

/* Keeps the compiler from seeing a copy in the loop and calling the function that the loop is in. */
#define HERE() __asm__ volatile("" : : : "memory")

/* Whether all of these can be read and written by words. */
#define BY_WORDS(addresses) (((addresses) & (sizeof(uint32_t) - 1)) == 0)

typedef uint32_t __attribute__((may_alias)) word;

void *memcpy(void *to, const void *from, size_t count)
{
    unsigned char *y = to;
    const unsigned char *x = from;
    if (BY_WORDS((uintptr_t)to | (uintptr_t)from))
        for (; count >= sizeof(word); count -= sizeof(word), y += sizeof(word), x += sizeof(word)) {
            *(word *)(void *)y = *(const word *)(const void *)x;
            HERE();
        }
    for (; count > 0; count--) {
        *y++ = *x++;
        HERE();
    }
    return to;
}

void *memmove(void *to, const void *from, size_t count)
{
    unsigned char *y = to;
    const unsigned char *x = from;
    if ((uintptr_t)y - (uintptr_t)x >= count)
        return memcpy(to, from, count);
    while (count > 0) {
        count--;
        y[count] = x[count];
        HERE();
    }
    return to;
}

void *memset(void *to, int value, size_t count)
{
    unsigned char *y = to;
    const uint32_t pattern = (uint32_t)(unsigned char)value * 0x01010101u;
    if (BY_WORDS((uintptr_t)to))
        for (; count >= sizeof(word); count -= sizeof(word), y += sizeof(word)) {
            *(word *)(void *)y = pattern;
            HERE();
        }
    for (; count > 0; count--) {
        *y++ = (unsigned char)value;
        HERE();
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t count)
{
    const unsigned char *x = a;
    const unsigned char *y = b;
    for (; count > 0; count--, x++, y++)
        if (*x != *y)
            return *x < *y ? -1 : 1;
    return 0;
}
