#include "et_device.h"

#define NAN_BITS 0x7FC00000u
#define REGION_HEADER_BYTES 5u /* region u8, offset u32 */

typedef union {
    float value;
    uint32_t bits;
} float_bits;

/* Where answers are built: over the request, which has been read by then. */
static uint8_t *payload_of(const et_device *device)
{
    return device->frame + ET_LINK_HEADER_BYTES;
}

static uint16_t length_to(const et_device *device, const uint8_t *end)
{
    return (uint16_t)(end - payload_of(device));
}

static uint16_t refuse(const et_device *device, uint8_t status)
{
    payload_of(device)[0] = status;
    return 1;
}

/* ---- queries: change nothing, so a repeated one is simply answered afresh ---- */

static uint16_t info(const et_device *device)
{
    uint8_t *next = payload_of(device);
    *next++ = ET_ANSWER_OK;
    *next++ = device->flags;
    next = et_link_put_u16(next, device->payload_bytes);
    for (uint8_t i = 0; i < ET_DEVICE_DIGEST_BYTES; i++)
        *next++ = device->digest[i];
    for (uint8_t i = 0; i < ET_REGION_COUNT; i++) {
        next = et_link_put_u64(next, (uint64_t)(uintptr_t)device->regions[i].data);
        next = et_link_put_u32(next, device->regions[i].bytes);
    }
    for (uint8_t i = 0; i < ET_DEVICE_NAME_BYTES && device->name[i] != '\0'; i++)
        *next++ = (uint8_t)device->name[i];
    return length_to(device, next);
}

static uint16_t get(const et_device *device)
{
    float_bits rate;
    rate.value = *device->learning_rate;
    uint8_t *next = payload_of(device);
    *next++ = ET_ANSWER_OK;
    next = et_link_put_u32(next, rate.bits);
    next = et_link_put_u32(next, *device->seed);
    next = et_link_put_u32(next, *device->step);
    next = et_link_put_u32(next, (uint32_t)*device->failed_step);
    return length_to(device, next);
}

static uint32_t stack_used(const et_device *device)
{
    const uint32_t paint = ET_DEVICE_PAINT * 0x01010101u;
    const volatile uint32_t *word = device->free_start;
    while (word != device->stack_top && *word == paint)
        word++;
    return (uint32_t)((uintptr_t)device->stack_top - (uintptr_t)word);
}

static uint32_t arena_used(const et_device *device)
{
    const uint8_t *arena = device->regions[ET_REGION_ARENA].data;
    uint32_t used = device->regions[ET_REGION_ARENA].bytes;
    while (used > 0 && arena[used - 1] == ET_DEVICE_PAINT)
        used--;
    return used;
}

static uint16_t stats(const et_device *device, const et_device_state *state)
{
    uint8_t *next = payload_of(device);
    *next++ = ET_ANSWER_OK;
    next = et_link_put_u64(next, state->instructions);
    next = et_link_put_u32(next, stack_used(device));
    next = et_link_put_u32(next, arena_used(device));
    return length_to(device, next);
}

/* The place that a request names, if `bytes` bytes are there; else NULL. */
static uint8_t *named_place(const et_device *device, const uint8_t *request, uint32_t bytes)
{
    if (request[0] >= ET_REGION_COUNT)
        return NULL;
    const et_device_region *const region = &device->regions[request[0]];
    const uint32_t offset = et_link_get_u32(request + 1);
    if (region->data == NULL || offset > region->bytes || bytes > region->bytes - offset)
        return NULL;
    return (uint8_t *)region->data + offset;
}

static uint16_t read_region(const et_device *device, const et_link_frame *request)
{
    if (request->length != REGION_HEADER_BYTES + 2u)
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    const uint16_t bytes = et_link_get_u16(request->payload + REGION_HEADER_BYTES);
    if (bytes >= device->payload_bytes)
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    const uint8_t *const from = named_place(device, request->payload, bytes);
    if (from == NULL)
        return refuse(device, ET_ANSWER_BAD_REGION);
    uint8_t *const to = payload_of(device);
    to[0] = ET_ANSWER_OK;
    for (uint16_t i = 0; i < bytes; i++)
        to[1 + i] = from[i];
    return (uint16_t)(bytes + 1u);
}

/* ---- commands: executed once, their short answers are kept ---- */

static uint16_t write_region(const et_device *device, const et_link_frame *request)
{
    if (request->length < REGION_HEADER_BYTES)
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    const uint32_t bytes = request->length - REGION_HEADER_BYTES;
    uint8_t *const to = named_place(device, request->payload, bytes);
    if (to == NULL)
        return refuse(device, ET_ANSWER_BAD_REGION);
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = request->payload[REGION_HEADER_BYTES + i];
    return refuse(device, ET_ANSWER_OK);
}

static uint16_t set(const et_device *device, const et_link_frame *request)
{
    if (request->length != 13)
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    const uint8_t which = request->payload[0];
    if (which & ET_SET_LEARNING_RATE) {
        float_bits rate;
        rate.bits = et_link_get_u32(request->payload + 1);
        *device->learning_rate = rate.value;
    }
    if (which & ET_SET_SEED)
        *device->seed = et_link_get_u32(request->payload + 5);
    if (which & ET_SET_STEP)
        *device->step = et_link_get_u32(request->payload + 9);
    return refuse(device, ET_ANSWER_OK);
}

static et_status run_function(const et_device *device, uint8_t type, float *loss)
{
    switch (type) {
    case ET_DEVICE_INIT:
        return device->init();
    case ET_DEVICE_INFER:
        return device->infer();
    case ET_DEVICE_TRAIN:
        return device->train != NULL ? device->train(loss) : ET_NOT_TRAINABLE;
    default:
        return device->update != NULL ? device->update() : ET_NOT_TRAINABLE;
    }
}

/* Runs a function of the model: the answer is its status, the step that failed, and the loss, NaN where there is none. */
static uint16_t run(const et_device *device, et_device_state *state, uint8_t type)
{
    float_bits loss;
    loss.bits = NAN_BITS;
    const uint64_t started = device->instructions();
    const et_status status = run_function(device, type, &loss.value);
    state->instructions = device->instructions() - started;
    uint8_t *next = payload_of(device);
    *next++ = ET_ANSWER_OK;
    *next++ = (uint8_t)status;
    next = et_link_put_u32(next, (uint32_t)*device->failed_step);
    next = et_link_put_u32(next, loss.bits);
    return length_to(device, next);
}

static uint16_t end(const et_device *device, et_device_state *state, const et_link_frame *request)
{
    if (request->length != 1)
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    state->exit_code = request->payload[0];
    state->ended = true;
    return refuse(device, ET_ANSWER_OK);
}

/* ---- requests ---- */

static bool is_command(uint8_t type)
{
    return type == ET_DEVICE_WRITE || (type >= ET_DEVICE_INIT && type <= ET_DEVICE_SET) || type == ET_DEVICE_EXIT;
}

static bool has_payload(uint8_t type)
{
    return type == ET_DEVICE_INFO || type == ET_DEVICE_WRITE || type == ET_DEVICE_READ || type == ET_DEVICE_SET ||
           type == ET_DEVICE_EXIT;
}

/* Executes a request and leaves the answer's payload in the frame; its length. */
static uint16_t execute(const et_device *device, et_device_state *state, const et_link_frame *request)
{
    if (request->type < ET_DEVICE_INFO || request->type > ET_DEVICE_EXIT)
        return refuse(device, ET_ANSWER_UNKNOWN_REQUEST);
    if (request->length != 0 && !has_payload(request->type))
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    switch (request->type) {
    case ET_DEVICE_INFO:
        return info(device);
    case ET_DEVICE_WRITE:
        return write_region(device, request);
    case ET_DEVICE_READ:
        return read_region(device, request);
    case ET_DEVICE_SET:
        return set(device, request);
    case ET_DEVICE_GET:
        return get(device);
    case ET_DEVICE_STATS:
        return stats(device, state);
    case ET_DEVICE_EXIT:
        return end(device, state, request);
    default:
        return run(device, state, request->type);
    }
}

/* A command's answer is shorter than 11 bytes; a repeated command finds all of them, and its length, here. */
static uint16_t execute_once(const et_device *device, et_device_state *state, const et_link_frame *request, bool again)
{
    uint8_t *const payload = payload_of(device);
    const uint8_t type = request->type;
    const uint16_t run_bytes = sizeof(state->answer);
    if (!again) {
        const uint16_t length = execute(device, state, request);
        for (uint16_t i = 0; i < run_bytes; i++)
            state->answer[i] = i < length ? payload[i] : 0;
        return length;
    }
    for (uint16_t i = 0; i < run_bytes; i++)
        payload[i] = state->answer[i];
    const bool ran = type >= ET_DEVICE_INIT && type <= ET_DEVICE_UPDATE && payload[0] == ET_ANSWER_OK;
    return ran ? run_bytes : 1;
}

static uint16_t serve(const et_device *device, et_device_state *state, const et_link_frame *request)
{
    /* A session opens only once: an old copy of its first request must not set the numbers back. */
    if (request->type == ET_DEVICE_INFO) {
        const uint32_t session = request->length == 4 ? et_link_get_u32(request->payload) : 0;
        if (session == 0)
            return refuse(device, ET_ANSWER_BAD_LENGTH);
        if (session != state->session) {
            state->session = session;
            state->sequence = request->sequence;
            return info(device);
        }
    }
    if (state->session == 0)
        return refuse(device, ET_ANSWER_NO_SESSION);
    const uint16_t ahead = (uint16_t)(request->sequence - state->sequence);
    if (ahead > 1)
        return refuse(device, ET_ANSWER_OUT_OF_ORDER);
    state->sequence = request->sequence;
    return is_command(request->type) ? execute_once(device, state, request, ahead == 0)
                                     : execute(device, state, request);
}

et_status et_device_start(const et_device *device, et_device_state *state)
{
    if (device->payload_bytes < ET_DEVICE_LEAST_PAYLOAD)
        return ET_BAD_ARGUMENT;
    state->instructions = 0;
    state->session = 0;
    state->sequence = 0;
    state->exit_code = 0;
    state->ended = false;
    et_link_begin(&state->decoder, device->frame, ET_LINK_FRAME_BYTES((size_t)device->payload_bytes));
    et_link_send(device->frame, ET_DEVICE_READY, 0, 0, device->write);
    return ET_OK;
}

void et_device_receive(const et_device *device, et_device_state *state, uint8_t byte)
{
    et_link_frame request;
    if (!et_link_push(&state->decoder, byte, &request))
        return;
    const uint16_t length = serve(device, state, &request);
    et_link_send(device->frame, (uint8_t)(request.type | ET_DEVICE_ANSWER), request.sequence, length, device->write);
}

et_status et_device_run(const et_device *device, int *exit_code)
{
    et_device_state state;
    ET_TRY(et_device_start(device, &state));
    while (!state.ended)
        et_device_receive(device, &state, device->read());
    *exit_code = state.exit_code;
    return ET_OK;
}

void et_device_report_trap(const et_device *device, uint64_t cause, uint64_t pc, uint64_t value)
{
    uint8_t frame[ET_LINK_FRAME_BYTES(24u)];
    (void)et_link_put_u64(et_link_put_u64(et_link_put_u64(frame + ET_LINK_HEADER_BYTES, cause), pc), value);
    device->write(0); /* ends whatever was being sent */
    et_link_send(frame, ET_DEVICE_TRAP, 0, 24, device->write);
}
