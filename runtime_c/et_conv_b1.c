/* See et_conv_b1.h. */
#include "et_conv_b1.h"

#include "et_ones.h"

#if defined(__GNUC__) || defined(__clang__)
#define ET_INLINE static inline __attribute__((always_inline))
#define ET_ANY_TYPE __attribute__((may_alias))
#else
#error "reading bits as words needs an attribute for types that alias others"
#endif

typedef uint32_t ET_ANY_TYPE et_word_b1;
typedef uint16_t ET_ANY_TYPE et_half_b1;
typedef uint64_t ET_ANY_TYPE __attribute__((aligned(4))) et_pair_b1;

/* Copies one unit: the largest type that every offset is a multiple of. */
ET_INLINE void copy_unit_b1(int32_t unit, const uint8_t *from, uint8_t *to)
{
    if (unit == 4)
        *(et_word_b1 *)to = *(const et_word_b1 *)from;
    else if (unit == 2)
        *(et_half_b1 *)to = *(const et_half_b1 *)from;
    else
        *to = *from;
}

/* Copies three units. */
ET_INLINE void copy_three_b1(int32_t unit, const uint8_t *from, uint8_t *to)
{
    copy_unit_b1(unit, from, to);
    copy_unit_b1(unit, from + unit, to + unit);
    copy_unit_b1(unit, from + 2 * unit, to + 2 * unit);
}

/* Copies bytes, a whole number of units. */
ET_INLINE void copy_b1(int32_t unit, int32_t bytes, const uint8_t *from, uint8_t *to)
{
    for (const uint8_t *const end = from + bytes; from != end; from += unit, to += unit)
        copy_unit_b1(unit, from, to);
}

/* The bits that one output reads. Bytes of taps outside stay as they are. */
ET_INLINE void gather_unit_b1(int32_t unit, const et_conv_shape_b1 *shape, const et_region_b1 *region,
    const uint8_t *x, uint8_t *to)
{
    to += region->first_byte;
    for (int32_t row = region->taps_h; row != 0; row--, x += shape->tap_row, to += shape->kernel_row) {
        ET_HIDE(row);
        if (shape->joined) {
            copy_b1(unit, region->run, x, to);
            continue;
        }
        const uint8_t *from = x;
        uint8_t *tap = to;
        for (int32_t column = region->taps_w; column != 0; column--, from += shape->tap_column, tap += shape->tap_bytes) {
            ET_HIDE(column);
            copy_b1(unit, shape->tap_bytes, from, tap);
        }
    }
}

/* Of a 3x3 kernel inside the image, whose taps have one unit each. */
ET_INLINE void gather_nine_b1(int32_t unit, ptrdiff_t tap_row, const uint8_t *x, uint8_t *to)
{
    const uint8_t *const second = x + tap_row, *const third = second + tap_row;
    copy_three_b1(unit, x, to);
    copy_three_b1(unit, second, to + 3 * unit);
    copy_three_b1(unit, third, to + 6 * unit);
}

ET_INLINE void gather_b1(const et_conv_shape_b1 *shape, const et_region_b1 *region, const uint8_t *x, uint32_t *gathered)
{
    uint8_t *const to = (uint8_t *)gathered;
    if ((shape->tap_bytes & 3) == 0)
        gather_unit_b1(4, shape, region, x, to);
    else if ((shape->tap_bytes & 1) == 0)
        gather_unit_b1(2, shape, region, x, to);
    else
        gather_unit_b1(1, shape, region, x, to);
}

/* Ones of a xor w: 1, 3, 5 or 9 words. Spelled out, as not every compiler unrolls a loop in time. */
ET_INLINE uint32_t unequal_few_b1(int32_t words, const uint32_t *a, const uint32_t *w)
{
    if (words == 1)
        return et_ones_b1(a[0] ^ w[0]);
#if ET_HAS_COUNT
    uint32_t ones = et_ones_b1(a[0] ^ w[0]) + et_ones_b1(a[1] ^ w[1]) + et_ones_b1(a[2] ^ w[2]);
    if (words >= 5)
        ones += et_ones_b1(a[3] ^ w[3]) + et_ones_b1(a[4] ^ w[4]);
    if (words >= 9)
        ones += et_ones_b1(a[5] ^ w[5]) + et_ones_b1(a[6] ^ w[6]) + et_ones_b1(a[7] ^ w[7]) + et_ones_b1(a[8] ^ w[8]);
    return ones;
#else
    if (words == 3)
        return et_sum_of_bytes_b1(et_ones_of_three_b1(a[0] ^ w[0], a[1] ^ w[1], a[2] ^ w[2]));
    const uint32_t five = et_ones_of_five_b1(a[0] ^ w[0], a[1] ^ w[1], a[2] ^ w[2], a[3] ^ w[3], a[4] ^ w[4]);
    if (words == 5)
        return et_sum_of_bytes_b1(five);
    const uint32_t four = et_ones_of_five_b1(a[5] ^ w[5], a[6] ^ w[6], a[7] ^ w[7], a[8] ^ w[8], 0);
    return et_wide_sum_of_bytes_b1(five + four);
#endif
}

typedef struct {
    uint32_t a;
    uint32_t b;
} et_ones_of_pair_b1;

/* Ones of a xor w and of b xor w. */
ET_INLINE et_ones_of_pair_b1 unequal_many_b1(int32_t words, const uint32_t *a, const uint32_t *b, const uint32_t *w)
{
    et_ones_of_pair_b1 ones = {0, 0};
    int32_t left = words;
#if ET_HAS_COUNT && UINTPTR_MAX > 0xffffffffu
    for (; left >= 2; left -= 2, a += 2, b += 2, w += 2) {
        ET_HIDE(left);
        const uint64_t filter = *(const et_pair_b1 *)w;
        ones.a += (uint32_t)__builtin_popcountll(*(const et_pair_b1 *)a ^ filter);
        ones.b += (uint32_t)__builtin_popcountll(*(const et_pair_b1 *)b ^ filter);
    }
#elif ET_HAS_COUNT
    for (; left >= 4; left -= 4, a += 4, b += 4, w += 4) {
        ET_HIDE(left);
        const uint32_t w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3];
        ones.a += et_ones_b1(a[0] ^ w0) + et_ones_b1(a[1] ^ w1) + et_ones_b1(a[2] ^ w2) + et_ones_b1(a[3] ^ w3);
        ones.b += et_ones_b1(b[0] ^ w0) + et_ones_b1(b[1] ^ w1) + et_ones_b1(b[2] ^ w2) + et_ones_b1(b[3] ^ w3);
    }
#else
    while (left >= ET_ONES_GROUP) { /* six groups fill a byte */
        et_ones_of_pair_b1 bytes = {0, 0};
        for (int32_t group = 6; group != 0 && left >= ET_ONES_GROUP; group--, left -= ET_ONES_GROUP) {
            ET_HIDE(left);
            const uint32_t w0 = w[0], w1 = w[1], w2 = w[2], w3 = w[3], w4 = w[4];
            bytes.a += et_ones_of_five_b1(a[0] ^ w0, a[1] ^ w1, a[2] ^ w2, a[3] ^ w3, a[4] ^ w4);
            bytes.b += et_ones_of_five_b1(b[0] ^ w0, b[1] ^ w1, b[2] ^ w2, b[3] ^ w3, b[4] ^ w4);
            a += ET_ONES_GROUP;
            b += ET_ONES_GROUP;
            w += ET_ONES_GROUP;
        }
        ones.a += et_wide_sum_of_bytes_b1(bytes.a);
        ones.b += et_wide_sum_of_bytes_b1(bytes.b);
    }
    if (left >= 3) {
        ones.a += et_sum_of_bytes_b1(et_ones_of_three_b1(a[0] ^ w[0], a[1] ^ w[1], a[2] ^ w[2]));
        ones.b += et_sum_of_bytes_b1(et_ones_of_three_b1(b[0] ^ w[0], b[1] ^ w[1], b[2] ^ w[2]));
        a += 3;
        b += 3;
        w += 3;
        left -= 3;
    }
#endif
    for (; left != 0; left--, a++, b++, w++) {
        ET_HIDE(left);
        ones.a += et_ones_b1(*a ^ *w);
        ones.b += et_ones_b1(*b ^ *w);
    }
    return ones;
}

#if ET_HAS_COUNT

/* All channels of two outputs, whose gathered bits are a and b. */
ET_INLINE void few_words_b1(int32_t words, int32_t count, const uint32_t *ET_RESTRICT a, const uint32_t *ET_RESTRICT b,
    const uint32_t *ET_RESTRICT w, const uint16_t *start, int16_t *first, int16_t *second)
{
    for (const int16_t *const end = first + count; first != end; w += words) {
        ET_HIDE(start);
        const uint32_t ones_a = unequal_few_b1(words, a, w), ones_b = unequal_few_b1(words, b, w);
        const uint32_t from = *start++;
        *first++ = (int16_t)(from - (ones_a + ones_a));
        *second++ = (int16_t)(from - (ones_b + ones_b));
    }
}

/* Nine words need registers of the stack, which the fewer words do without. */
static ET_NOINLINE void nine_words_b1(int32_t count, const uint32_t *a, const uint32_t *b, const uint32_t *w,
    const uint16_t *start, int16_t *first, int16_t *second)
{
    few_words_b1(9, count, a, b, w, start, first, second);
}

#else

/* All channels of one output: adders leave no registers for the bits of another. */
ET_INLINE void few_words_b1(int32_t words, int32_t count, const uint32_t *ET_RESTRICT a,
    const uint32_t *ET_RESTRICT w, const uint16_t *start, int16_t *sums)
{
#define HELD(i) ((i) < words ? a[i] : 0)
    const uint32_t held[9] = {HELD(0), HELD(1), HELD(2), HELD(3), HELD(4), HELD(5), HELD(6), HELD(7), HELD(8)};
#undef HELD
#define CHANNEL(i)                                                                           \
    {                                                                                        \
        const uint32_t ones = unequal_few_b1(words, held, w + (i) * words), from = start[i]; \
        sums[i] = (int16_t)(from - (ones + ones));                                           \
        ET_BARRIER(); /* else the next channel's words take the registers of these */        \
    }
    const int16_t *const fours = sums + (count & ~3), *const end = sums + count;
    for (; sums != fours; w += 4 * words, start += 4, sums += 4) {
        ET_HIDE(start);
        CHANNEL(0)
        CHANNEL(1)
        CHANNEL(2)
        CHANNEL(3)
    }
    for (; sums != end; w += words, start++, sums++) {
        ET_HIDE(start);
        CHANNEL(0)
    }
#undef CHANNEL
}

/* By the number of words; false where they are many. */
static ET_NOINLINE bool few_b1(int32_t words, int32_t count, const uint32_t *a, const uint32_t *w, const uint16_t *start,
    int16_t *sums)
{
    if (words == 5)
        few_words_b1(5, count, a, w, start, sums);
    else if (words == 9)
        few_words_b1(9, count, a, w, start, sums);
    else if (words == 3)
        few_words_b1(3, count, a, w, start, sums);
    else if (words == 1)
        few_words_b1(1, count, a, w, start, sums);
    else
        return false;
    return true;
}

#endif

/* All channels of two outputs, by the number of words. */
static ET_NOINLINE void pair_b1(int32_t words, int32_t count, const uint32_t *a, const uint32_t *b, const uint32_t *w,
    const uint16_t *start, int16_t *first, int16_t *second)
{
#if ET_HAS_COUNT
    if (words == 5) {
        few_words_b1(5, count, a, b, w, start, first, second);
        return;
    }
    if (words == 9) {
        nine_words_b1(count, a, b, w, start, first, second);
        return;
    }
    if (words == 3) {
        few_words_b1(3, count, a, b, w, start, first, second);
        return;
    }
    if (words == 1) {
        few_words_b1(1, count, a, b, w, start, first, second);
        return;
    }
#endif
    for (; count != 0; count--, w += words) {
        ET_HIDE(count);
        const et_ones_of_pair_b1 ones = unequal_many_b1(words, a, b, w);
        const uint32_t from = *start++;
        *first++ = (int16_t)(from - (ones.a + ones.a));
        *second++ = (int16_t)(from - (ones.b + ones.b));
    }
}

/* All channels of one output: channels in pairs, so that the two filters take the place of two outputs. */
static void single_b1(int32_t words, int32_t count, const uint32_t *a, const uint32_t *w, const uint16_t *start,
    int16_t *sums)
{
    for (; count >= 2; count -= 2, w += words + words) {
        ET_HIDE(count);
        const et_ones_of_pair_b1 ones = unequal_many_b1(words, w, w + words, a);
        *sums++ = (int16_t)(*start++ - (ones.a + ones.a));
        *sums++ = (int16_t)(*start++ - (ones.b + ones.b));
    }
    if (count != 0) {
        const et_ones_of_pair_b1 ones = unequal_many_b1(words, w, w, a);
        *sums = (int16_t)(*start - (ones.a + ones.a));
    }
}

/* All outputs of a region, in pairs; unit: bytes of a tap of nine inside the image, 0: any other kernel. */
ET_INLINE void outputs_b1(int32_t unit, const et_conv_shape_b1 *shape, const et_region_b1 *region, const uint8_t *x,
    const uint32_t *filters, const uint16_t *starts, uint32_t *gathered, int16_t *y)
{
    const int32_t words = shape->words, count = shape->out_channels;
    const ptrdiff_t x_column = shape->x_column, tap_row = shape->tap_row;
    uint32_t *const second_gathered = gathered + words;
    int16_t *first = NULL;
    for (int32_t row = region->rows; row != 0; row--, x += shape->x_row, y += shape->y_row) {
        ET_HIDE(row);
        const uint8_t *pixel = x;
        int16_t *result = y;
        for (int32_t column = region->columns; column != 0; column--, pixel += x_column, result += count) {
            ET_HIDE(column);
            uint32_t *const to = first == NULL ? gathered : second_gathered;
            if (unit != 0)
                gather_nine_b1(unit, tap_row, pixel, (uint8_t *)to);
            else
                gather_b1(shape, region, pixel, to);
#if !ET_HAS_COUNT
            if (few_b1(words, count, gathered, filters, starts, result))
                continue;
#endif
            if (first == NULL) {
                first = result;
                continue;
            }
            pair_b1(words, count, gathered, second_gathered, filters, starts, first, result);
            first = NULL;
        }
    }
    if (first != NULL)
        single_b1(words, count, gathered, filters, starts, first);
}

static void region_b1(const et_conv_shape_b1 *shape, const et_region_b1 *region, const uint8_t *x,
    const uint32_t *filters, const uint16_t *starts, uint32_t *gathered, int16_t *y)
{
    const bool nine = shape->joined && region->taps_h == 3 && region->run == 3 * shape->tap_bytes;
    x += region->source;
    y += region->result;
    for (int32_t i = shape->words + shape->words; i-- > 0;)
        gathered[i] = 0;
    if (nine && shape->tap_bytes == 4)
        outputs_b1(4, shape, region, x, filters, starts, gathered, y);
    else if (nine && shape->tap_bytes == 2)
        outputs_b1(2, shape, region, x, filters, starts, gathered, y);
    else
        outputs_b1(0, shape, region, x, filters, starts, gathered, y);
}

et_status et_conv_packed_b1(const et_conv_shape_b1 *shape, const uint8_t *x, const uint32_t *words,
    const uint16_t *starts, void *scratch, int16_t *y)
{
    if (shape == NULL || x == NULL || words == NULL || starts == NULL || scratch == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    for (int32_t image = shape->batch; image != 0; image--, x += shape->x_image, y += shape->y_image) {
        ET_HIDE(image);
        const uint16_t *start = starts;
        const et_region_b1 *region = shape->regions;
        for (int32_t left = shape->region_count; left != 0; left--, region++, start += shape->out_channels) {
            ET_HIDE(left);
            region_b1(shape, region, x, words, start, (uint32_t *)scratch, y);
        }
    }
    return ET_OK;
}

/* The start of one filter in one region, from the ones of each tap. */
static uint16_t start_b1(const et_conv_shape_b1 *shape, const et_region_b1 *region, const uint16_t *ones, uint32_t all)
{
    const uint16_t *row = ones + region->first_tap;
    for (int32_t h = region->taps_h; h != 0; h--, row += shape->kernel_w) {
        ET_HIDE(h);
        for (int32_t i = 0; i < region->taps_w; i++)
            all -= row[i];
    }
    return (uint16_t)((uint32_t)region->products + all + all);
}

et_status et_conv_b1(const et_conv_shape_b1 *shape, const uint8_t *x, const uint8_t *w, void *scratch, int16_t *y)
{
    if (shape == NULL || x == NULL || w == NULL || scratch == NULL || y == NULL)
        return ET_BAD_ARGUMENT;
    const int32_t count = shape->out_channels, words = shape->words;
    uint32_t *const filters = (uint32_t *)scratch + words + words;
    uint16_t *const starts = (uint16_t *)(void *)(filters + shape->all_words);
    uint16_t *const ones = starts + shape->start_count;
    uint32_t *filter = filters;
    uint16_t *first = starts;
    for (int32_t left = count; left != 0; left--, filter += words) {
        ET_HIDE(left);
        uint8_t *bytes = (uint8_t *)filter;
        uint32_t all = 0;
        filter[words - 1] = 0;
        uint16_t *each = ones;
        for (int32_t tap = shape->taps; tap != 0; tap--) {
            uint32_t sum = 0;
            ET_HIDE(tap);
            for (int32_t i = shape->tap_bytes; i != 0; i--) {
                ET_HIDE(i);
                sum += et_ones_b1(*w);
                *bytes++ = *w++;
            }
            *each++ = (uint16_t)sum;
            all += sum;
        }
        uint16_t *start = first++;
        const et_region_b1 *region = shape->regions;
        for (int32_t regions = shape->region_count; regions != 0; regions--, region++, start += count) {
            ET_HIDE(regions);
            *start = start_b1(shape, region, ones, all);
        }
    }
    return et_conv_packed_b1(shape, x, filters, starts, scratch, y);
}
