/* Shows what the serial line carries to a board that does nothing but read it: `edgetrain bench link` puts this file beside
 * the firmware of a model with one float input and class labels.
 *
 * The PC writes MAGIC and a count over the first two inputs, and sends a byte. The board says that it listens, reads as many
 * bytes as were told, and says that it has them: each with a zero, which ends no frame. */
#include "board.h"
#include "hooks.h"

#define MAGIC 0x0BAD11E5u

typedef union {
    float value;
    uint32_t bits;
} word;

static void await_byte(void)
{
    uint8_t byte;
    while (!et_board_receive(&byte)) {
    }
}

et_sample et_on_sample(float *input, int32_t *label)
{
    word first, second;
    first.value = input[0];
    second.value = input[1];
    (void)label;
    if (first.bits == MAGIC) {
        input[0] = 0.0f;
        await_byte();
        et_board_write(0);
        for (uint32_t i = 0; i < second.bits; i++)
            await_byte();
        et_board_write(0);
    }
    return ET_NO_SAMPLE;
}
