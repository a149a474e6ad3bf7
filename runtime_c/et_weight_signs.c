/* See et_weight_signs.h. */
#include "et_weight_signs.h"

#include "et_random.h"
#include "et_stored.h"

/* The body of a kernel. Reads go along the outputs of a panel, which lie next to each other; up to eight of them, one
 * for each input, make a byte. BIT(at, index) is the bit of the weight that lies at `at`. */
#define PACK(BIT)                                                                                              \
    do {                                                                                                       \
        const size_t bytes = (inputs + 7) / 8;                                                                 \
        if (inputs == 0 || groups == 0 || width == 0 || w == NULL || signs == NULL)                            \
            return ET_BAD_ARGUMENT;                                                                            \
        const size_t of_group = outputs / groups;                                                              \
        size_t panel = 0; /* where it starts */                                                                \
        for (size_t first = 0, wide; first < outputs; first += wide, panel += wide * taps * inputs) {          \
            wide = of_group - first % of_group < width ? of_group - first % of_group : width;                  \
            for (size_t tap = 0; tap < taps; ++tap)                                                            \
                for (size_t b = 0; b < bytes; ++b) {                                                           \
                    const size_t left = inputs - 8 * b < 8 ? inputs - 8 * b : 8, row = tap * inputs + 8 * b;   \
                    uint8_t *byte = signs + (first * taps + tap) * bytes + b;                                  \
                    for (size_t o = 0; o < wide; ++o, byte += taps * bytes) {                                  \
                        unsigned bits = 0;                                                                     \
                        size_t at = panel + row * wide + o, index = row * outputs + first + o;                 \
                        for (size_t j = 0; j < left; ++j, at += wide, index += outputs)                        \
                            bits |= (unsigned)(BIT(at, index)) << j;                                           \
                        *byte = (uint8_t)bits;                                                                 \
                    }                                                                                          \
                }                                                                                              \
        }                                                                                                      \
        return ET_OK;                                                                                          \
    } while (0)

et_status et_pack_signs_f32(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, const float *w, uint8_t *signs)
{
#define BIT(at, index) ((void)(index), w[at] >= 0.0f)
    PACK(BIT);
#undef BIT
}

et_status et_pack_signs_fixed16(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, const int16_t *w, uint8_t *signs)
{
#define BIT(at, index) ((void)(index), w[at] >= 0)
    PACK(BIT);
#undef BIT
}

et_status et_pack_signs_fp16(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, const uint16_t *w, uint8_t *signs)
{
#define BIT(at, index) ((void)(index), et_load_fp16(w[at]) >= 0.0f)
    PACK(BIT);
#undef BIT
}

et_status et_draw_signs_f32(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, float slope, uint32_t seed,
    uint32_t step, uint32_t stream, const float *w, uint8_t *signs)
{
    const et_random_key_t key = et_random_key(seed, step, stream);
#define BIT(at, index) (et_random_unit_at_f32(key, (uint32_t)(index)) < et_madd(w[at], slope, 0.5f))
    PACK(BIT);
#undef BIT
}

et_status et_draw_signs_fixed16(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, int32_t exponent, float slope,
    uint32_t seed, uint32_t step, uint32_t stream, const int16_t *w, uint8_t *signs)
{
    const et_random_key_t key = et_random_key(seed, step, stream);
    const float resolution = et_power_of_two_f32(exponent);
#define BIT(at, index) (et_random_unit_at_f32(key, (uint32_t)(index)) < et_madd((float)w[at] * resolution, slope, 0.5f))
    PACK(BIT);
#undef BIT
}

et_status et_draw_signs_fp16(
    size_t taps, size_t inputs, size_t outputs, size_t groups, size_t width, float slope, uint32_t seed,
    uint32_t step, uint32_t stream, const uint16_t *w, uint8_t *signs)
{
    const et_random_key_t key = et_random_key(seed, step, stream);
#define BIT(at, index) (et_random_unit_at_f32(key, (uint32_t)(index)) < et_madd(et_load_fp16(w[at]), slope, 0.5f))
    PACK(BIT);
#undef BIT
}
