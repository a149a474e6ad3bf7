/* Cuts the power at every byte of a SAVE and of a ROLLBACK, restarts, and looks at what is there.
 *
 * Arguments: page_bytes pages write_bytes data_bytes changed_bytes. For each history (empty flash, one state, two states, a
 * save that was cut before) and each way in which an erase breaks off, all cuts. Prints the number of cuts; exits with 1
 * and a line on stderr at the first restart that gives neither the old nor the new state, or cannot save again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nor_flash.h"

#define LARGEST 32768u

typedef struct {
    uint8_t data[LARGEST];
    float rate;
    uint32_t seed, step;
    uint64_t mark;
} content;

static uint8_t digest[ET_STORE_DIGEST_BYTES] = {7, 7, 7};
static et_flash flash;
static uint32_t data_bytes;
static uint64_t cuts;
static content memory;

static et_store_state state_of(content *c)
{
    const et_store_state state = {c->data, data_bytes, 0x1234, digest, &c->rate, &c->seed, &c->step};
    return state;
}

static et_status save(content *c)
{
    et_store_label label;
    const et_store_state state = state_of(c);
    return et_store_save(&flash, &state, c->mark, &label);
}

static et_status load(content *c)
{
    et_store_label label = {0, 0};
    const et_store_state state = state_of(c);
    const et_status status = et_store_load(&flash, &state, &label);
    c->mark = label.mark;
    return status;
}

static et_status rollback(content *c)
{
    et_store_label label = {0, 0};
    const et_store_state state = state_of(c);
    const et_status status = et_store_rollback(&flash, &state, &label);
    c->mark = label.mark;
    return status;
}

static content *made(uint32_t number, const content *before, uint32_t changed)
{
    content *const c = malloc(sizeof(*c));
    if (c == NULL)
        exit(3);
    if (before != NULL)
        memcpy(c->data, before->data, sizeof(c->data));
    for (uint32_t i = 0; i < data_bytes && (before == NULL || i < changed); i++)
        c->data[i] = (uint8_t)(i * 31u + number * 57u + (i >> 8));
    c->rate = 0.5f * (float)number;
    c->seed = 100 + number;
    c->step = 1000 * number;
    c->mark = 0x100000000u + number;
    return c;
}

static bool equal(const content *a, const content *b)
{
    return memcmp(a->data, b->data, data_bytes) == 0 && a->rate == b->rate && a->seed == b->seed && a->step == b->step &&
           a->mark == b->mark;
}

static void power_on(void)
{
    nor.left = UINT32_MAX;
    nor.dead = false;
}

static void fail(const char *what, uint32_t cut)
{
    fprintf(stderr, "%s after a cut at byte %u\n", what, (unsigned)cut);
    exit(1);
}

/* What a restart finds is `old` (NULL: nothing) or `new`, and the next save works. */
static void check_restart(const content *old, const content *new, const content *next, uint32_t cut)
{
    power_on();
    memset(&memory, 0xEE, sizeof(memory));
    const et_status status = load(&memory);
    if (status == ET_NO_STATE ? old != NULL : status != ET_OK)
        fail("a state is lost", cut);
    if (status == ET_OK && !(old != NULL && equal(&memory, old)) && !equal(&memory, new))
        fail("neither the old nor the new state", cut);
    content *const kept = made(90, next, data_bytes);
    if (save(kept) != ET_OK || load(&memory) != ET_OK || !equal(&memory, kept))
        fail("the next save does not work", cut);
    if (nor.overwritten)
        fail("a byte was programmed that was not erased", cut);
    free(kept);
    cuts++;
}

/* All cuts of one operation from the flash as it is. */
static void cut_everywhere(et_status (*operation)(content *), content *argument, const content *old, const content *new)
{
    static nor_flash start;
    start = nor;
    content scratch = *argument;
    const uint32_t before = nor.touched;
    if (operation(&scratch) != ET_OK)
        fail("without a cut, the operation fails", 0);
    const uint32_t all = nor.touched - before;
    for (int scattered = 0; scattered < 2; scattered++)
        for (uint32_t cut = 0; cut < all; cut++) {
            nor = start;
            nor.scattered = scattered != 0;
            nor.random = cut * 2654435761u + (uint32_t)scattered;
            nor.left = cut;
            scratch = *argument;
            if (operation(&scratch) == ET_OK)
                fail("success is claimed", cut);
            check_restart(old, new, argument, cut);
        }
    nor = start;
}

int main(int count, char **arguments)
{
    if (count != 6)
        return 2;
    data_bytes = (uint32_t)atoi(arguments[4]);
    const uint32_t changed = (uint32_t)atoi(arguments[5]);
    flash = nor_table((uint32_t)atoi(arguments[1]), (uint32_t)atoi(arguments[2]), (uint32_t)atoi(arguments[3]));
    power_on();
    memset(nor.bytes, 0x5A, sizeof(nor.bytes)); /* whatever was there before */
    content *const a = made(1, NULL, 0);
    content *const b = made(2, a, changed);
    content *const c = made(3, b, changed);
    cut_everywhere(save, a, NULL, a);
    if (save(a) != ET_OK)
        return 3;
    cut_everywhere(save, b, a, b);
    if (save(b) != ET_OK)
        return 3;
    cut_everywhere(save, c, b, c);
    cut_everywhere(rollback, b, b, a);
    /* A save that is cut after one that was cut. */
    nor.left = flash.page_bytes + 40;
    if (save(c) == ET_OK)
        return 3;
    power_on();
    cut_everywhere(save, c, b, c);
    free(a);
    free(b);
    free(c);
    printf("%llu\n", (unsigned long long)cuts);
    return 0;
}
