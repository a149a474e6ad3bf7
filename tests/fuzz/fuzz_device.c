/* libFuzzer on the frame decoder, the command handler and the flash store.
 *
 * The first byte of an input says how the rest is read:
 *   even  bytes of the line, as they are
 *   odd   requests: type, length, payload; each is put into a good frame with the next number, so that what lies behind
 *         the CRC is reached. Type 0 cuts the power after as many bytes of flash as the payload's first two bytes say.
 * The counting device of the link's tests answers; ASan and UBSan watch.
 *
 * tests/fuzz/run [-runs=N]   builds and runs it
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "../c/counting_device.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t line[4 * ET_LINK_FRAME_BYTES(255u)];

static void request(uint8_t type, uint16_t number, const uint8_t *payload, uint8_t bytes)
{
    const size_t length = encode(type, number, payload, bytes, line);
    feed(line, length);
}

/* A good answer follows each good request, and nothing else was said: the decoder of the PC's side must find it. */
static void check_answers(void)
{
    static uint8_t answers[sizeof(sent)];
    static uint8_t memory_of_answer[ET_LINK_FRAME_BYTES(PAYLOAD_BYTES)];
    et_link_frame frame;
    const size_t count = take(answers);
    if (count != 0 && decode(answers, count, sizeof(memory_of_answer), memory_of_answer, &frame) < 1)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t opened[4] = {1, 0, 0, 0};
    if (size < 2)
        return 0;
    start();
    uint16_t number = data[0];
    request(ET_DEVICE_INFO, number, opened, sizeof(opened));
    if (data[0] % 2 == 0) {
        feed(data + 1, size - 1);
        return 0;
    }
    for (size_t at = 1; at + 2 <= size;) {
        const uint8_t type = data[at];
        const size_t left = size - at - 2;
        const uint8_t bytes = (uint8_t)(data[at + 1] < left ? data[at + 1] : left);
        const uint8_t *const payload = data + at + 2;
        if (type == 0)
            cut_after(bytes < 2 ? 0 : et_link_get_u16(payload));
        else
            request(type, ++number, payload, bytes);
        check_answers();
        at += 2u + bytes;
    }
    return 0;
}
