/* Codes by thresholds of sums that share a word, and stay side by side until all of them are codes. Not for callers.
 *
 *   two lanes     low + 2^16 high, magnitudes up to ET_TWO_LANES
 *   three lanes   low + 2^11 middle + 2^22 high, magnitudes up to ET_THREE_LANES
 *
 * The code of channel c is how many of its thresholds are <= direction[c] * sum, as et_epilogue_codes has it; there are 1
 * or 3 of them.
 */
#ifndef ET_LANE_CODES_H
#define ET_LANE_CODES_H

#include "et_base.h"

enum {
    ET_TWO_LANES = 16383,
    ET_THREE_LANES = 511,
    ET_LANE_WORDS = 2 /* of `words`, for each threshold */
};

typedef struct {
    int32_t lanes;
    int32_t levels;
    const int32_t *words;    /* [channels][levels][ET_LANE_WORDS], made by et_lane_thresholds */
    const int8_t *direction; /* [channels] */
} et_lane_epilogue;

/* Writes thresholds int32 [channels][levels] as they are compared with the sums of so many lanes. */
void et_lane_thresholds(int32_t lanes, int32_t channels, int32_t levels, const int32_t *thresholds, int32_t *words);

/* Finishes `count` channels, of some pixels; the epilogue starts at the first of them. sums[i] and element i of each of
 * `rows` belong to channel i of the first pixel, the pitches lead to the next one. rows[k] is that of lane k, lane 0
 * being the lowest; where there is no such row, it is rows[0]. */
void et_lane_codes(const et_lane_epilogue *end, int32_t count, int32_t pixels, const int32_t *sums, size_t sums_pitch,
                   int8_t *const rows[3], size_t pitch);

#endif
