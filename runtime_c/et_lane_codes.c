/* See et_lane_codes.h. */
#include "et_lane_codes.h"

#include "et_block.h"
#include "et_turn_signs.h"

/* Halves and thirds of words, and what makes sums in them positive. */
#define BOTH(bits) ((uint32_t)(bits) * 0x10001u)
#define LOWER(bits) ((uint32_t)(bits) * 0x801u)
#define THREE_BIAS (LOWER(1024) + (512u << 22))

/* A sum that is biased less a threshold is positive, and one bit says whether it is at least the bias. The highest of
 * three lanes has no bit left for that: the word itself is compared. A threshold that no sum reaches, or every one, may
 * as well be at the limit. */
void et_lane_thresholds(int32_t lanes, int32_t channels, int32_t levels, const int32_t *thresholds, int32_t *words)
{
    const int32_t most = (lanes == 3 ? ET_THREE_LANES : ET_TWO_LANES) + 1, least = -most + 1;
    for (; channels > 0; channels--) {
        for (int32_t left = levels; left > 0; left--, words += ET_LANE_WORDS) {
            const int32_t threshold = *thresholds++;
            const int32_t bounded = threshold > most ? most : threshold < least ? least : threshold;
            const uint32_t bits = (uint32_t)bounded;
            uint32_t next = bits << (lanes == 3 ? 11 : 16);
            ET_OPAQUE(next); /* else both are found by one product */
            words[0] = (int32_t)((lanes == 3 ? 0u : 0x80008000u) - bits - next);
            words[1] = (int32_t)(((bits + 511u) << 22) + 0x3FFFFFu);
        }
        ET_OPAQUE(thresholds);
        ET_OPAQUE(words);
    }
}

/* Of ascending thresholds, reaching an odd number of them is bit 0 of the code, and reaching the second is bit 1. */
ET_INLINE uint32_t lane_bits(uint32_t word, int32_t levels, const uint32_t *thresholds, int32_t bit, uint32_t mask)
{
    const uint32_t first = word + thresholds[0], second = word + thresholds[2];
    if (levels == 1)
        return first >> bit & mask;
    return (second >> (bit - 1) & mask << 1) | ((first ^ second ^ (word + thresholds[4])) >> bit & mask);
}

/* One channel of some pixels; lanes, levels and `down` are known when compiling. */
ET_INLINE void one_channel(int32_t lanes, int32_t levels, bool down, const int32_t *words, int32_t pixels,
                           const int32_t *sums, size_t sums_pitch, int8_t *low, int8_t *middle, int8_t *high,
                           size_t pitch)
{
    uint32_t t[3 * ET_LANE_WORDS] = {0};
    ET_UNROLL
    for (int32_t i = 0; i < levels * ET_LANE_WORDS; i++)
        t[i] = (uint32_t)words[i];
    for (; pixels > 0; pixels--, sums += sums_pitch, low += pitch, middle += pitch) {
        uint32_t word = down ? 0u - (uint32_t)*sums : (uint32_t)*sums;
        if (lanes == 2) {
            const uint32_t codes = lane_bits(word, levels, t, 15, BOTH(1));
            *middle = (int8_t)(codes >> 16); /* before the lower one: it may be the same byte */
            *low = (int8_t)(codes & 3u);
            continue;
        }
        word += THREE_BIAS;
        int32_t code = word > t[1];
        if (levels == 3)
            code += (word > t[3]) + (word > t[5]);
        const uint32_t codes = lane_bits(word, levels, t, 10, LOWER(1));
        *high = (int8_t)code;
        *middle = (int8_t)(codes >> 11 & 3u);
        *low = (int8_t)(codes & 3u);
        high += pitch;
    }
}

#define DEFINE_CHANNELS(lanes, levels)                                                                               \
    static void channels_##lanes##_##levels(const et_lane_epilogue *end, int32_t count, int32_t pixels,              \
                                            const int32_t *sums, size_t sums_pitch, int8_t *const rows[3],           \
                                            size_t pitch)                                                            \
    {                                                                                                                \
        const int32_t *words = end->words;                                                                           \
        const int8_t *direction = end->direction;                                                                    \
        int8_t *low = rows[0], *middle = rows[1], *high = rows[2];                                                   \
        for (; count > 0; count--, words += (levels) * ET_LANE_WORDS, sums++, low++, middle++, high++) {             \
            if (*direction++ < 0)                                                                                    \
                one_channel(lanes, levels, true, words, pixels, sums, sums_pitch, low, middle, high, pitch);         \
            else                                                                                                     \
                one_channel(lanes, levels, false, words, pixels, sums, sums_pitch, low, middle, high, pitch);        \
        }                                                                                                            \
    }
DEFINE_CHANNELS(2, 1)
DEFINE_CHANNELS(2, 3)
DEFINE_CHANNELS(3, 1)
DEFINE_CHANNELS(3, 3)

void et_lane_codes(const et_lane_epilogue *end, int32_t count, int32_t pixels, const int32_t *sums, size_t sums_pitch,
                   int8_t *const rows[3], size_t pitch)
{
    if (end->lanes == 2 && end->levels == 1)
        channels_2_1(end, count, pixels, sums, sums_pitch, rows, pitch);
    else if (end->lanes == 2)
        channels_2_3(end, count, pixels, sums, sums_pitch, rows, pitch);
    else if (end->levels == 1)
        channels_3_1(end, count, pixels, sums, sums_pitch, rows, pitch);
    else
        channels_3_3(end, count, pixels, sums, sums_pitch, rows, pitch);
}
