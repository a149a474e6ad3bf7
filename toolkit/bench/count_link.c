/* Counts what a board does for the link in one training step: `edgetrain bench link` puts this file beside the firmware of a
 * model with one float input and class labels, and defines above it INPUT_BYTES, LABEL_BYTES, and FRAMES: for each case the
 * largest payload of a frame, and whether samples come as codes.
 *
 * A device like the board's own, but around a model that does nothing and a line that leads nowhere, is given the requests
 * for a step on a whole sample byte by byte. The counts go over the inputs, a u64 for each case. */
#include "board.h"
#include "et_device.h"
#include "hooks.h"

#define VALUES (INPUT_BYTES / 4u)
#define PAYLOAD_BYTES (INPUT_BYTES + LABEL_BYTES)
#define WRITE_HEADER_BYTES 5u

static const struct {
    uint16_t payload_bytes;
    bool coded;
} cases[] = {FRAMES};

static struct {
    float input[VALUES], codes[ET_DEVICE_CODES];
    uint8_t label[LABEL_BYTES];
    uint8_t line[2u * PAYLOAD_BYTES + 64u];
    uint8_t frame[ET_LINK_FRAME_BYTES(PAYLOAD_BYTES + WRITE_HEADER_BYTES)];
    uint8_t request[ET_LINK_FRAME_BYTES(PAYLOAD_BYTES + WRITE_HEADER_BYTES)];
    uint8_t digest[ET_DEVICE_DIGEST_BYTES];
    uint32_t line_bytes, painted[1], seed, step;
    int32_t failed_step;
    float learning_rate;
} memory;

static void to_line(uint8_t byte)
{
    memory.line[memory.line_bytes++] = byte;
}

static void to_nowhere(uint8_t byte)
{
    (void)byte;
}

static et_status nothing(void)
{
    return ET_OK;
}

static et_status train(float *loss)
{
    *loss = 0.0f;
    return ET_OK;
}

static const et_device device = {
    .name = "counted",
    .digest = memory.digest,
    .regions = {[ET_REGION_INPUT] = {memory.input, INPUT_BYTES}, [ET_REGION_LABEL] = {memory.label, LABEL_BYTES}},
    .codes = memory.codes,
    .learning_rate = &memory.learning_rate,
    .seed = &memory.seed,
    .step = &memory.step,
    .failed_step = &memory.failed_step,
    .init = nothing,
    .infer = nothing,
    .train = train,
    .update = nothing,
    .free_start = memory.painted,
    .stack_top = memory.painted,
    .instructions = et_board_instret,
    .write = to_nowhere,
    .frame = memory.frame,
    .payload_bytes = PAYLOAD_BYTES + WRITE_HEADER_BYTES,
};

/* Instructions from the first byte of a request to the last of its answer; its payload is in `request`. */
static uint64_t served(et_device_state *state, uint8_t type, uint16_t *number, uint32_t length)
{
    memory.line_bytes = 0;
    et_link_send(memory.request, type, (*number)++, (uint16_t)length, to_line);
    const uint64_t start = et_board_instret();
    for (uint32_t i = 0; i < memory.line_bytes; i++)
        et_device_receive(&device, state, memory.line[i]);
    return et_board_instret() - start;
}

/* Some bytes of a sample, none of which is like the last. */
static void draw(uint8_t *to, uint32_t bytes)
{
    static uint32_t drawn = 1;
    for (uint32_t i = 0; i < bytes; i++) {
        drawn = drawn * 1664525u + 1013904223u;
        to[i] = (uint8_t)(drawn >> 24);
    }
}

/* As toolkit/link/session.py does it: the last of a sample in the frame of TRAIN, what comes before with WRITE. */
static uint64_t count_step(uint32_t payload_bytes, bool coded)
{
    uint8_t *const payload = memory.request + ET_LINK_HEADER_BYTES;
    const uint32_t values = coded ? VALUES : INPUT_BYTES;
    const uint32_t space = payload_bytes - LABEL_BYTES;
    const uint32_t tail = values < space ? values : space;
    et_device_state state;
    uint16_t number = 0;
    uint64_t count = 0;
    payload[0] = 1; /* any session but 0 */
    if (et_device_start(&device, &state) != ET_OK)
        return 0;
    (void)served(&state, ET_DEVICE_INFO, &number, 4);
    for (uint32_t done = 0; done < values - tail;) {
        const uint32_t left = values - tail - done, most = payload_bytes - WRITE_HEADER_BYTES;
        const uint32_t bytes = left < most ? left : most;
        payload[0] = coded ? ET_REGION_CODED_INPUT : ET_REGION_INPUT;
        (void)et_link_put_u32(payload + 1, done);
        draw(payload + WRITE_HEADER_BYTES, bytes);
        count += served(&state, ET_DEVICE_WRITE, &number, WRITE_HEADER_BYTES + bytes);
        done += bytes;
    }
    draw(payload, tail + LABEL_BYTES);
    return count + served(&state, coded ? ET_DEVICE_TRAIN | ET_DEVICE_CODED : ET_DEVICE_TRAIN, &number, tail + LABEL_BYTES);
}

et_sample et_on_sample(float *input, int32_t *label)
{
    static bool counted;
    uint8_t *to = (uint8_t *)input;
    (void)label;
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]) && !counted; i++)
        to = et_link_put_u64(to, count_step(cases[i].payload_bytes, cases[i].coded));
    counted = true;
    return ET_NO_SAMPLE;
}
