/* A plugin of QEMU that counts how often each block of instructions runs between two readings of minstret.
 *
 * The declarations are those of QEMU's plugin interface, as its documentation has them: Debian ships no header for it.
 * Written to the file of the argument out=FILE:
 *   block NUMBER ADDRESS SIZE      when a block is translated, followed by one line for each instruction
 *   read                           at each reading of minstret, followed by the blocks that ran since the last one:
 *   ran NUMBER TIMES MISSED MISSED how often its branch went another way than was predicted, by counters of two bits
 *                                  and by the last backward branch that was taken */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
typedef void (*executed_fn)(unsigned int vcpu, void *data);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, executed_fn, int flags, void *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, executed_fn, int flags, void *);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
char *qemu_plugin_insn_disas(const struct qemu_plugin_insn *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = PLUGIN_VERSION;

struct block {
    struct block *next_made;
    unsigned long number;
    uint64_t start, last, end; /* addresses: of the first and of the last instruction, and behind it */
    bool branches;
    uint64_t times, missed[2], told[3];
    unsigned counter; /* of two bits */
};

static FILE *out;
static struct block *made, *previous, *remembered;
static unsigned long blocks;

static void ran(unsigned int vcpu, void *data)
{
    struct block *block = data;
    struct block *from = previous;
    (void)vcpu;
    if (from != NULL && from->branches) {
        bool taken = block->start != from->end;
        bool by_counter = from->counter >= 2, by_last = remembered == from;
        from->missed[0] += taken != by_counter;
        from->missed[1] += taken != by_last;
        if (taken && from->counter < 3)
            from->counter++;
        else if (!taken && from->counter > 0)
            from->counter--;
        if (taken && block->start <= from->last)
            remembered = from;
        else if (by_last && !taken)
            remembered = NULL;
    }
    block->times++;
    previous = block;
}

static void tell(unsigned int vcpu, void *data)
{
    (void)vcpu, (void)data;
    fputs("read\n", out);
    for (struct block *block = made; block != NULL; block = block->next_made) {
        uint64_t now[3] = {block->times, block->missed[0], block->missed[1]};
        if (now[0] != block->told[0] || now[1] != block->told[1] || now[2] != block->told[2]) {
            fprintf(out, "ran %lu", block->number);
            for (int i = 0; i < 3; i++) {
                fprintf(out, " %llu", (unsigned long long)(now[i] - block->told[i]));
                block->told[i] = now[i];
            }
            fputc('\n', out);
        }
    }
    fflush(out);
}

static bool is_branch(const char *text)
{
    static const char *const names[] = {"beq", "bne", "blt", "bge", "bgt", "ble"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strstr(text, names[i]) != NULL)
            return true;
    return false;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    struct block *block = calloc(1, sizeof *block);
    size_t count = qemu_plugin_tb_n_insns(tb);
    (void)id;
    if (block == NULL)
        abort();
    block->number = blocks++;
    block->next_made = made;
    made = block;
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *one = qemu_plugin_tb_get_insn(tb, i);
        char *text = qemu_plugin_insn_disas(one);
        uint64_t at = qemu_plugin_insn_vaddr(one);
        if (i == 0) {
            block->start = at;
            fprintf(out, "block %lu %llx %zu\n", block->number, (unsigned long long)at, count);
        }
        fprintf(out, "%s\n", text);
        block->branches = is_branch(text);
        block->last = at;
        block->end = at + qemu_plugin_insn_size(one);
        if (strstr(text, "instret,") != NULL || strstr(text, "rdinstret ") != NULL)
            qemu_plugin_register_vcpu_insn_exec_cb(one, tell, 0, NULL);
        free(text);
    }
    qemu_plugin_register_vcpu_tb_exec_cb(tb, ran, 0, block);
}

static void ended(qemu_plugin_id_t id, void *data)
{
    (void)id, (void)data;
    fclose(out);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int count, char **words)
{
    (void)info;
    for (int i = 0; i < count; i++)
        if (strncmp(words[i], "out=", 4) == 0)
            out = fopen(words[i] + 4, "w");
    if (out == NULL)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
