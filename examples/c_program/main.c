/* A program of your own around a generated model: learn which half of a picture is bright, then ask.
 *
 *   edgetrain compile digits-cnn --train all --target host -o build/digits
 *   make -C build/digits
 *   cc -O2 -Ibuild/digits examples/c_program/main.c build/digits/libdigits_cnn.a -o build/learn && build/learn
 */
#include <stdio.h>

#include "model.h"

/* The caller owns all memory. */
static unsigned char arena[ET_DIGITS_CNN_ARENA_BYTES] __attribute__((aligned(16)));
static et_digits_cnn_params params;

static uint32_t noise(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 24;
}

/* A noisy picture whose left (0) or right (1) half is bright. */
static int32_t draw(float x[64], uint32_t *state)
{
    int32_t side = (int32_t)(noise(state) & 1u);
    for (int i = 0; i < 64; i++) {
        float bright = (i % 8 >= 4) == (side == 1) ? 1.0f : 0.0f;
        x[i] = bright + (float)noise(state) / 256.0f;
    }
    return side;
}

int main(void)
{
    et_digits_cnn_t model;
    uint32_t state = 1;
    float x[64], y[10], loss = 0.0f;
    if (et_digits_cnn_init(&model, arena, &params) != ET_OK) return 1;
    model.learning_rate = 0.01f;
    for (int step = 0; step < 500; step++) {
        int32_t side = draw(x, &state);
        if (et_digits_cnn_train_step(&model, x, &side, &loss) != ET_OK) return 1;
        if (step % 100 == 0) printf("step %3d: loss %.4f\n", step, (double)loss);
    }
    int right = 0;
    for (int i = 0; i < 100; i++) {
        int32_t side = draw(x, &state);
        if (et_digits_cnn_infer(&model, x, y) != ET_OK) return 1;
        right += (y[1] > y[0]) == (side == 1);
    }
    printf("%d of 100 right\n", right);
    return right >= 95 ? 0 : 1;
}
