#include "et_device.h"

#define NAN_BITS 0x7FC00000u
#define REGION_HEADER_BYTES 5u /* region u8, offset u32 */
#define VALUE_BYTES 4u         /* of a float32 */

typedef union {
    float value;
    uint32_t bits;
} float_bits;

static void copy(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = from[i];
}

/* A request of the same name whose inputs are not codes. */
static uint8_t plain(uint8_t type)
{
    return (uint8_t)(type & ~(unsigned)ET_DEVICE_CODED);
}

/* Whether a request is run on a sample, which may come with it. */
static bool takes_sample(uint8_t type)
{
    return type == ET_DEVICE_INFER || type == ET_DEVICE_TRAIN || type == ET_DEVICE_EVAL;
}

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

static bool keeps(const et_device *device)
{
    et_device_label none = {0, 0};
    return device->keep != NULL && device->keep(ET_DEVICE_INFO, &none) == ET_OK;
}

static uint16_t info(const et_device *device)
{
    uint8_t *next = payload_of(device);
    *next++ = ET_ANSWER_OK;
    *next++ = (uint8_t)(device->flags | ET_FLAG_SAMPLES | (keeps(device) ? ET_FLAG_STORES : 0) |
                        (device->codes != NULL ? ET_FLAG_CODES : 0));
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

static et_device_region region_of(const et_device *device, uint8_t number)
{
    if (number < ET_REGION_COUNT)
        return device->regions[number];
    if (number == ET_REGION_CODES)
        return (et_device_region){device->codes, ET_DEVICE_CODES * VALUE_BYTES};
    return (et_device_region){NULL, 0};
}

/* The place that a request names, if `bytes` bytes are there; else NULL. */
static uint8_t *named_place(const et_device *device, const uint8_t *request, uint32_t bytes)
{
    const et_device_region region = region_of(device, request[0]);
    const uint32_t offset = et_link_get_u32(request + 1);
    if (region.data == NULL || offset > region.bytes || bytes > region.bytes - offset)
        return NULL;
    return (uint8_t *)region.data + offset;
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
    copy(to + 1, from, bytes);
    return (uint16_t)(bytes + 1u);
}

/* ---- commands: executed once, their short answers are kept ---- */

/* Values of the inputs, the first of them after `first`; their bits are moved as words, so that none changes. */
static void take_codes(const et_device *device, uint32_t first, const uint8_t *codes, uint32_t count)
{
    const float *const values = device->codes;
    float *const to = (float *)device->regions[ET_REGION_INPUT].data + first;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t word;
        __builtin_memcpy(&word, &values[codes[i]], sizeof word);
        __builtin_memcpy(&to[i], &word, sizeof word);
    }
}

/* How many values the inputs have that can come as codes. */
static uint32_t coded_values(const et_device *device)
{
    return device->codes != NULL ? device->regions[ET_REGION_INPUT].bytes / VALUE_BYTES : 0;
}

static uint16_t write_codes(const et_device *device, const uint8_t *payload, uint32_t count)
{
    const uint32_t first = et_link_get_u32(payload + 1), values = coded_values(device);
    if (values == 0 || first > values || count > values - first)
        return refuse(device, ET_ANSWER_BAD_REGION);
    take_codes(device, first, payload + REGION_HEADER_BYTES, count);
    return refuse(device, ET_ANSWER_OK);
}

static uint16_t write_region(const et_device *device, const et_link_frame *request)
{
    if (request->length < REGION_HEADER_BYTES)
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    const uint32_t bytes = request->length - REGION_HEADER_BYTES;
    if (request->payload[0] == ET_REGION_CODED_INPUT)
        return write_codes(device, request->payload, bytes);
    uint8_t *const to = named_place(device, request->payload, bytes);
    if (to == NULL)
        return refuse(device, ET_ANSWER_BAD_REGION);
    copy(to, request->payload + REGION_HEADER_BYTES, bytes);
    return refuse(device, ET_ANSWER_OK);
}

/* Puts what came with INFER, TRAIN or EVAL in its place: the last of the inputs, as bytes or as codes, then, but for INFER,
 * the whole label. An empty payload leaves both as they are. False: the payload is none of these, and nothing was written. */
static bool take_sample(const et_device *device, const et_link_frame *request)
{
    const et_device_region *const input = &device->regions[ET_REGION_INPUT];
    const et_device_region *const label = &device->regions[ET_REGION_LABEL];
    const bool coded = (request->type & ET_DEVICE_CODED) != 0;
    const uint32_t label_bytes = plain(request->type) == ET_DEVICE_INFER ? 0 : label->bytes;
    const uint32_t most = coded ? coded_values(device) : input->bytes;
    if (request->length == 0)
        return true;
    if (request->length < label_bytes || request->length - label_bytes > most)
        return false;
    const uint32_t count = request->length - label_bytes;
    if (coded)
        take_codes(device, most - count, request->payload, count);
    else
        copy((uint8_t *)input->data + (most - count), request->payload, count);
    copy(label->data, request->payload + count, label_bytes);
    return true;
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
static uint16_t run(const et_device *device, et_device_state *state, const et_link_frame *request)
{
    if (!take_sample(device, request))
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    float_bits loss;
    loss.bits = NAN_BITS;
    const uint64_t started = device->instructions();
    const et_status status = run_function(device, plain(request->type), &loss.value);
    state->instructions = device->instructions() - started;
    uint8_t *next = payload_of(device);
    *next++ = ET_ANSWER_OK;
    *next++ = (uint8_t)status;
    next = et_link_put_u32(next, (uint32_t)*device->failed_step);
    next = et_link_put_u32(next, loss.bits);
    return length_to(device, next);
}

/* The place of the largest of some numbers, the first of equals. */
static uint32_t place_of_largest(const float *values, uint32_t count)
{
    uint32_t place = 0;
    for (uint32_t i = 1; i < count; i++)
        if (values[i] > values[place])
            place = i;
    return place;
}

/* How many rows of the first output have their largest number where the label has it. */
static uint32_t count_correct(const et_device *device, uint32_t rows)
{
    const float *const outputs = device->regions[ET_REGION_OUTPUT].data;
    const void *const label = device->regions[ET_REGION_LABEL].data;
    uint32_t correct = 0;
    for (uint32_t row = 0; row < rows; row++) {
        const uint32_t start = row * device->classes;
        const uint32_t wanted = device->label_is_class ? ((const uint32_t *)label)[row]
                                                       : place_of_largest((const float *)label + start, device->classes);
        correct += place_of_largest(outputs + start, device->classes) == wanted;
    }
    return correct;
}

/* Runs the model on the inputs and compares with the label: status, the step that failed, rows, and how many are right. */
static uint16_t evaluate(const et_device *device, et_device_state *state, const et_link_frame *request)
{
    if (!take_sample(device, request))
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    const uint32_t label_bytes = device->regions[ET_REGION_LABEL].bytes;
    const uint32_t row_bytes = 4u * (device->label_is_class ? 1u : device->classes);
    uint32_t rows = 0, correct = 0;
    et_status status = ET_NOT_TRAINABLE;
    if (device->classes != 0 && label_bytes != 0) {
        const uint64_t started = device->instructions();
        status = device->infer();
        state->instructions = device->instructions() - started;
        if (status == ET_OK) {
            rows = label_bytes / row_bytes;
            correct = count_correct(device, rows);
        }
    }
    uint8_t *next = payload_of(device);
    *next++ = ET_ANSWER_OK;
    *next++ = (uint8_t)status;
    next = et_link_put_u32(next, (uint32_t)*device->failed_step);
    next = et_link_put_u32(next, rows);
    next = et_link_put_u32(next, correct);
    return length_to(device, next);
}

/* SAVE, LOAD, ROLLBACK: the answer is the status, and the sequence and the mark of the state. */
static uint16_t store(const et_device *device, const et_link_frame *request)
{
    et_device_label label = {0, 0};
    if (request->length != (request->type == ET_DEVICE_SAVE ? 8 : 0))
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    if (request->type == ET_DEVICE_SAVE)
        label.mark = et_link_get_u64(request->payload);
    et_status status = ET_NO_FLASH;
    if (device->keep != NULL)
        status = device->keep(request->type, &label);
    if (status != ET_OK)
        label = (et_device_label){0, 0};
    uint8_t *next = payload_of(device);
    *next++ = ET_ANSWER_OK;
    *next++ = (uint8_t)status;
    next = et_link_put_u32(next, label.sequence);
    next = et_link_put_u64(next, label.mark);
    return length_to(device, next);
}

static uint16_t reset(const et_device *device, et_device_state *state)
{
    state->resetting = device->reset != NULL;
    return refuse(device, state->resetting ? ET_ANSWER_OK : ET_ANSWER_UNKNOWN_REQUEST);
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
    return type == ET_DEVICE_WRITE || (type >= ET_DEVICE_INIT && type <= ET_DEVICE_SET) || type >= ET_DEVICE_EXIT;
}

static bool has_payload(uint8_t type)
{
    return type == ET_DEVICE_INFO || type == ET_DEVICE_WRITE || type == ET_DEVICE_READ || type == ET_DEVICE_SET ||
           type == ET_DEVICE_EXIT || type == ET_DEVICE_SAVE || takes_sample(type);
}

/* Executes a request and leaves the answer's payload in the frame; its length. */
static uint16_t execute(const et_device *device, et_device_state *state, const et_link_frame *request)
{
    const uint8_t type = plain(request->type);
    if (type < ET_DEVICE_INFO || type > ET_DEVICE_RESET)
        return refuse(device, ET_ANSWER_UNKNOWN_REQUEST);
    if (type != request->type && !takes_sample(type))
        return refuse(device, ET_ANSWER_UNKNOWN_REQUEST);
    if (request->length != 0 && !has_payload(type))
        return refuse(device, ET_ANSWER_BAD_LENGTH);
    switch (type) {
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
    case ET_DEVICE_SAVE:
    case ET_DEVICE_LOAD:
    case ET_DEVICE_ROLLBACK:
        return store(device, request);
    case ET_DEVICE_EVAL:
        return evaluate(device, state, request);
    case ET_DEVICE_RESET:
        return reset(device, state);
    default:
        return run(device, state, request);
    }
}

/* A command's answer is short enough to be kept: a repeated command finds it here. */
static uint16_t execute_once(const et_device *device, et_device_state *state, const et_link_frame *request, bool again)
{
    uint8_t *const payload = payload_of(device);
    if (!again) {
        state->answer_bytes = (uint8_t)execute(device, state, request);
        for (uint8_t i = 0; i < state->answer_bytes; i++)
            state->answer[i] = payload[i];
    }
    for (uint8_t i = 0; i < state->answer_bytes; i++)
        payload[i] = state->answer[i];
    return state->answer_bytes;
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
            state->type = ET_DEVICE_INFO;
            return info(device);
        }
    }
    if (state->session == 0)
        return refuse(device, ET_ANSWER_NO_SESSION);
    const uint16_t ahead = (uint16_t)(request->sequence - state->sequence);
    if (ahead > 1 || (ahead == 0 && request->type != state->type))
        return refuse(device, ET_ANSWER_OUT_OF_ORDER);
    state->sequence = request->sequence;
    state->type = request->type;
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
    state->type = 0;
    state->exit_code = 0;
    state->answer_bytes = 0;
    state->ended = false;
    state->resetting = false;
    et_device_label label = {0, 0};
    if (device->keep != NULL)
        (void)!device->keep(ET_DEVICE_LOAD, &label); /* without a state, the model begins as it was compiled */
    et_link_begin(&state->decoder, device->frame, ET_LINK_FRAME_BYTES((size_t)device->payload_bytes));
    et_link_send(device->frame, ET_DEVICE_READY, 0, 0, device->write);
    return ET_OK;
}

void et_device_receive(const et_device *device, et_device_state *state, uint8_t byte)
{
    et_link_frame request;
    if (et_link_append(&state->decoder, byte))
        return;
    if (!et_link_push(&state->decoder, byte, &request)) {
        /* The PC need not wait for an answer that will not come. The frame's buffer is free: nothing is arriving. */
        if (state->decoder.damaged)
            et_link_send(device->frame, ET_DEVICE_DAMAGED, 0, 0, device->write);
        return;
    }
    const uint16_t length = serve(device, state, &request);
    et_link_send(device->frame, (uint8_t)(request.type | ET_DEVICE_ANSWER), request.sequence, length, device->write);
    if (state->resetting) {
        state->resetting = false;
        device->reset();
    }
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
