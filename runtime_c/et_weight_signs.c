/* See et_weight_signs.h. */
#include "et_weight_signs.h"

#include "et_random.h"
#include "et_stored.h"

/* Defines a kernel's body. Reads go along the outputs, which lie next to each other; one byte of each output's row is
 * complete after up to eight of them. BIT(i) is the bit of weight i. */
#define PACK(BIT)                                                                      \
    do {                                                                               \
        const size_t bytes = (inputs + 7) / 8;                                         \
        if (inputs == 0 || outputs == 0 || w == NULL || signs == NULL)                 \
            return ET_BAD_ARGUMENT;                                                    \
        for (size_t tap = 0; tap < taps; ++tap)                                        \
            for (size_t b = 0; b < bytes; ++b) {                                       \
                const size_t left = inputs - 8 * b < 8 ? inputs - 8 * b : 8;           \
                const size_t first = (tap * inputs + 8 * b) * outputs;                 \
                uint8_t *const column = signs + tap * bytes + b;                       \
                for (size_t o = 0; o < outputs; ++o) {                                 \
                    unsigned byte = 0;                                                 \
                    size_t i = first + o;                                              \
                    for (size_t j = 0; j < left; ++j, i += outputs)                    \
                        byte |= (unsigned)(BIT(i)) << j;                               \
                    column[o * taps * bytes] = (uint8_t)byte;                          \
                }                                                                      \
            }                                                                          \
        return ET_OK;                                                                  \
    } while (0)

et_status et_pack_signs_f32(size_t taps, size_t inputs, size_t outputs, const float *w, uint8_t *signs)
{
#define BIT(i) (w[i] >= 0.0f)
    PACK(BIT);
#undef BIT
}

et_status et_pack_signs_fixed16(size_t taps, size_t inputs, size_t outputs, const int16_t *w, uint8_t *signs)
{
#define BIT(i) (w[i] >= 0)
    PACK(BIT);
#undef BIT
}

et_status et_pack_signs_fp16(size_t taps, size_t inputs, size_t outputs, const uint16_t *w, uint8_t *signs)
{
#define BIT(i) (et_load_fp16(w[i]) >= 0.0f)
    PACK(BIT);
#undef BIT
}

et_status et_draw_signs_f32(
    size_t taps, size_t inputs, size_t outputs, float slope, uint32_t seed, uint32_t step, uint32_t stream,
    const float *w, uint8_t *signs)
{
    const et_random_key_t key = et_random_key(seed, step, stream);
#define BIT(i) (et_random_unit_at_f32(key, (uint32_t)(i)) < et_madd(w[i], slope, 0.5f))
    PACK(BIT);
#undef BIT
}

et_status et_draw_signs_fixed16(
    size_t taps, size_t inputs, size_t outputs, int32_t exponent, float slope, uint32_t seed, uint32_t step,
    uint32_t stream, const int16_t *w, uint8_t *signs)
{
    const et_random_key_t key = et_random_key(seed, step, stream);
    const float resolution = et_power_of_two_f32(exponent);
#define BIT(i) (et_random_unit_at_f32(key, (uint32_t)(i)) < et_madd((float)w[i] * resolution, slope, 0.5f))
    PACK(BIT);
#undef BIT
}

et_status et_draw_signs_fp16(
    size_t taps, size_t inputs, size_t outputs, float slope, uint32_t seed, uint32_t step, uint32_t stream,
    const uint16_t *w, uint8_t *signs)
{
    const et_random_key_t key = et_random_key(seed, step, stream);
#define BIT(i) (et_random_unit_at_f32(key, (uint32_t)(i)) < et_madd(et_load_fp16(w[i]), slope, 0.5f))
    PACK(BIT);
#undef BIT
}
