/* et_device.c around a model that only counts, for tests on the PC: bytes go in by feed(), answers come out by take(). */
#include "et_device_store.h"
#include "nor_flash.h"

#define PAYLOAD_BYTES 192u

void start(void);
void feed(const uint8_t *bytes, size_t count);
size_t take(uint8_t *to);
int has_ended(void);
uint32_t counted(int what);
void cut_after(uint32_t bytes);
size_t encode(uint8_t type, uint16_t sequence, const uint8_t *payload, uint16_t length, uint8_t *to);
int decode(const uint8_t *bytes, size_t count, size_t capacity, uint8_t *memory, et_link_frame *frame);

static struct {
    uint32_t params[100];
    uint32_t input[16];
    float output[16];
    int32_t label[4];
    uint8_t arena[64];
    float codes[ET_DEVICE_CODES];
    uint32_t free_memory[64];
    uint8_t frame[ET_LINK_FRAME_BYTES(PAYLOAD_BYTES)];
    float learning_rate;
    uint32_t seed, step;
    int32_t failed_step;
    uint32_t counts[4]; /* init, infer, train, update */
} memory;
static et_device_state state;
#ifndef SENT_BYTES
#define SENT_BYTES (1u << 20)
#endif
static uint8_t sent[SENT_BYTES];
static size_t sent_count;

static void write_sent(uint8_t byte)
{
    if (sent_count < sizeof(sent))
        sent[sent_count++] = byte;
}

static uint64_t instructions(void)
{
    static uint64_t count;
    return count += 1000;
}

static et_flash flash;
static bool reset_asked;

static et_status keep(uint8_t request, et_device_label *label);

static void reset(void)
{
    reset_asked = true;
}

static et_status init(void)
{
    memory.counts[0]++;
    memory.step = 0;
    return ET_OK;
}

static et_status infer(void)
{
    memory.counts[1]++;
    for (int i = 0; i < 16; i++)
        memory.output[i] = (float)memory.input[i] + 1.0f;
    return ET_OK;
}

static et_status train(float *loss)
{
    memory.counts[2]++;
    if (memory.input[0] == 0xFFFFFFFFu) {
        memory.failed_step = 3;
        return ET_BAD_LABEL;
    }
    memory.step++;
    memory.params[0]++;
    *loss = (float)memory.step;
    return ET_OK;
}

static et_status update(void)
{
    memory.counts[3]++;
    return ET_OK;
}

static const uint8_t digest[ET_DEVICE_DIGEST_BYTES] = {1, 2, 3};

static const et_device device = {
    .name = "counting",
    .digest = digest,
    .flags = ET_FLAG_TRAINABLE | ET_FLAG_FMA,
    .regions = {
        [ET_REGION_INPUT] = {memory.input, sizeof(memory.input)},
        [ET_REGION_LABEL] = {memory.label, sizeof(memory.label)},
        [ET_REGION_OUTPUT] = {memory.output, sizeof(memory.output)},
        [ET_REGION_PARAMS] = {memory.params, sizeof(memory.params)},
        [ET_REGION_ARENA] = {memory.arena, sizeof(memory.arena)},
    },
    .codes = memory.codes,
    .learning_rate = &memory.learning_rate,
    .seed = &memory.seed,
    .step = &memory.step,
    .failed_step = &memory.failed_step,
    .init = init,
    .infer = infer,
    .train = train,
    .update = update,
    .classes = 4,
    .label_is_class = true,
    .keep = keep,
    .reset = reset,
    .free_start = memory.free_memory,
    .stack_top = memory.free_memory + 64,
    .instructions = instructions,
    .write = write_sent,
    .frame = memory.frame,
    .payload_bytes = PAYLOAD_BYTES,
};

static et_status keep(uint8_t request, et_device_label *label)
{
    return et_device_keep(&device, &flash, 1, request, label);
}

static void restart(void)
{
    uint8_t *const bytes = (uint8_t *)&memory;
    for (size_t i = 0; i < sizeof(memory); i++)
        bytes[i] = 0;
    for (size_t i = 0; i < sizeof(memory.arena); i++)
        memory.arena[i] = i < 10 ? 0 : ET_DEVICE_PAINT;
    for (size_t i = 0; i < 64; i++)
        memory.free_memory[i] = i < 60 ? 0xA5A5A5A5u : 0;
    memory.failed_step = -1;
    nor.left = UINT32_MAX;
    nor.dead = false;
    (void)!et_device_start(&device, &state);
}

void start(void)
{
    flash = nor_table(64, 24, 4);
    for (size_t i = 0; i < flash.page_bytes * flash.pages; i++)
        nor.bytes[i] = 0xFF;
    sent_count = 0;
    restart();
}

/* The power goes after that many bytes of flash were erased or programmed; the board starts over. */
void cut_after(uint32_t bytes)
{
    nor.left = bytes;
}

void feed(const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count && !state.ended; i++) {
        const size_t before = sent_count;
        et_device_receive(&device, &state, bytes[i]);
        if (nor.dead)
            sent_count = before; /* a board without power says nothing */
        if (nor.dead || reset_asked)
            restart();
        reset_asked = false;
    }
}

size_t take(uint8_t *to)
{
    const size_t count = sent_count;
    for (size_t i = 0; i < count; i++)
        to[i] = sent[i];
    sent_count = 0;
    return count;
}

int has_ended(void)
{
    return state.ended;
}

uint32_t counted(int what)
{
    return memory.counts[what];
}

size_t encode(uint8_t type, uint16_t sequence, const uint8_t *payload, uint16_t length, uint8_t *to)
{
    static uint8_t buffer[ET_LINK_FRAME_BYTES(65535u)];
    for (size_t i = 0; i < length; i++)
        buffer[ET_LINK_HEADER_BYTES + i] = payload[i];
    sent_count = 0;
    et_link_send(buffer, type, sequence, length, write_sent);
    return take(to);
}

/* The number of good frames among some bytes, and the last of them. */
int decode(const uint8_t *bytes, size_t count, size_t capacity, uint8_t *into, et_link_frame *frame)
{
    et_link_decoder decoder;
    int frames = 0;
    et_link_begin(&decoder, into, capacity);
    for (size_t i = 0; i < count; i++)
        frames += et_link_push(&decoder, bytes[i], frame);
    return frames;
}
