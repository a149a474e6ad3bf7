/* See et_half_outer.h. */
#include "et_half_outer.h"

#include "et_half_number.h"
#include "et_repeat.h"

enum {
    EACH = 61,   /* of so many weights one is looked at */
    SPARSE = 1,  /* rows round to fewer levels than columns: a row of zeros costs nothing */
    LEVELS = 10, /* at most 2^10 of them, so that products of two are exact in float32 */
    ROWS = 64,   /* that are worked on together */
    COLUMNS = 128
};

/* Factors that are rounded alike. */
typedef struct {
    const uint16_t *values;
    float rate;  /* what they are multiplied by */
    float scale; /* and so that they round to integers */
    int32_t exponent; /* the least e with |rate * value| < 2^e for all of them */
    uint32_t most;    /* bits of the largest magnitude that is finite so; 0: there is nothing to do */
    uint32_t first;   /* the random number of the first */
} factors;

/* The rows and columns of a part of the weights that have steps. */
typedef struct {
    et_random_key_t key;
    uint32_t first;  /* the random number of the part's weight (0, 0) */
    ptrdiff_t pitch;
    float bound;     /* what is smaller needs no random number */
    int32_t rows;
    int32_t columns;
    uint8_t row[ROWS];
    uint8_t column[COLUMNS]; /* up to a multiple of 8 the last is repeated: done twice at once, a step is done once */
    float step[ROWS];         /* -n times the quantum */
    et_number level[COLUMNS]; /* m */
} part;

static bool is_finite(const factors *of, uint32_t magnitude)
{
    const float product = of->rate * et_from_fp16((uint16_t)magnitude);
    return magnitude < 0x7C00u && product < 0x1p16f && product > -0x1p16f;
}

/* Finds the largest factor; gives whether all are finite. */
static bool measure(factors *of, size_t count)
{
    bool finite = true;
    uint32_t most = 0;
    for (size_t i = 0; i < count; i++) {
        const uint32_t magnitude = of->values[i] & 0x7FFFu;
        if (magnitude > most) {
            if (is_finite(of, magnitude))
                most = magnitude;
            else
                finite = false;
        }
    }
    const uint32_t bits = et_bits_f32(of->rate * et_from_fp16((uint16_t)most)) & ~ET_SIGN_BIT;
    of->exponent = (int32_t)(bits >> 23) - 126;
    of->most = bits == 0u ? 0u : most;
    return finite;
}

/* Factor i, rounded. */
static inline int32_t level(const factors *of, et_random_key_t key, size_t i)
{
    const uint16_t value = of->values[i];
    if ((value & 0x7FFFu) - 1u >= of->most) /* 0, or not finite */
        return 0;
    const uint32_t bits = et_bits_f32(of->scale * et_from_fp16(value));
    const float draw = (float)(int32_t)(et_random_at(key, of->first + (uint32_t)i) >> 8) * 0x1p-24f;
    const int32_t rounded = (int32_t)(et_from_bits_f32(bits & ~ET_SIGN_BIT) + draw);
    return (bits & ET_SIGN_BIT) != 0u ? -rounded : rounded;
}

/* The exponent of the last place of the largest of some weights. */
static int32_t quantum(size_t count, const uint16_t *w)
{
    uint32_t most = 1u << 10;
    for (size_t i = 0; i < count; i += EACH) {
        const uint32_t magnitude = w[i] & 0x7FFFu;
        most = magnitude > most ? magnitude : most;
    }
    return (int32_t)(most >> 10) - 25;
}

/* Steps some weights of row k of a part. */
static ET_NOINLINE void step_each(const part *of, int32_t k, int32_t column, int32_t end, uint16_t *w)
{
    const ptrdiff_t row = of->row[k] * of->pitch;
    for (end = end < of->columns ? end : of->columns; column < end; column++) {
        uint16_t *const place = w + row + of->column[column];
        const float m = (float)of->level[column], step = of->step[k], value = et_from_fp16(*place);
        const float nearest = et_madd_fp16(step, m, value);
        if (nearest < of->bound && nearest > -of->bound)
            *place = et_to_fp16(nearest);
        else
            *place = et_store_fp16(et_madd(step, m, value),
                                   et_random_at(of->key, of->first + (uint32_t)(row + of->column[column])));
    }
}

#if ET_HAS_ZFH
/* The core notes when an operation was not exact. Only then a weight may have reached the bound. */
static inline void forget_rounding(void)
{
    __asm__ volatile("csrw fflags, zero" ::: "memory");
}

static inline bool has_rounded(void)
{
    uint32_t flags;
    __asm__ volatile("frflags %0" : "=r"(flags));
    return (flags & 1u) != 0u;
}

static inline et_number larger(et_number x, et_number most)
{
    et_number result;
    __asm__("fsgnjx.h %0, %1, %1\n\tfmax.h %0, %0, %2" : "=&f"(result) : "f"(x), "f"(most));
    return result;
}

#define STEP_LOAD(m, j)                             \
    const et_number b##j = of->level[column + j];   \
    const ptrdiff_t at##j = of->column[column + j];
#define STEP(m, j) const et_number v##j = et_number_madd(a, b##j, ET_ELEMENT_VALUE(row[at##j]));
#define STEP_CHECK(m, j) __asm__ volatile("" ::"f"(v##j)); /* comes before the flags are read */
#define STEP_MOST(m, j) most = larger(v##j, most);
#define STEP_STORE(m, j) row[at##j] = v##j;
#define DEFINE_STEPS(NAME, DO, WIDTH)                                                   \
    static ET_NOINLINE void NAME(const part *of, int32_t column, et_element *w)         \
    {                                                                                   \
        const et_number bound = (et_number)of->bound;                                   \
        DO(STEP_LOAD, 0)                                                                \
        forget_rounding();                                                              \
        for (int32_t k = 0; k < of->rows; k++) {                                        \
            et_element *const row = w + of->row[k] * of->pitch;                         \
            const et_number a = (et_number)of->step[k];                                 \
            DO(STEP, 0)                                                                 \
            DO(STEP_CHECK, 0)                                                           \
            if (has_rounded()) {                                                        \
                et_number most = 0;                                                     \
                DO(STEP_MOST, 0)                                                        \
                forget_rounding();                                                      \
                if (!(most < bound)) {                                                  \
                    step_each(of, k, column, column + WIDTH, (uint16_t *)(void *)w);    \
                    continue;                                                           \
                }                                                                       \
            }                                                                           \
            DO(STEP_STORE, 0)                                                           \
        }                                                                               \
    }
DEFINE_STEPS(steps_8, ET_COLUMNS_8, 8)
DEFINE_STEPS(steps_4, ET_COLUMNS_4, 4)
DEFINE_STEPS(steps_2, ET_COLUMNS_2, 2)
DEFINE_STEPS(steps_1, ET_COLUMNS_1, 1)
#endif

static void step_part(const part *of, uint16_t *w)
{
#if ET_HAS_ZFH
    et_element *const place = (et_element *)(void *)w;
    const int32_t eights = of->columns & ~7, rest = of->columns & 7;
    for (int32_t column = 0; column < eights; column += 8)
        steps_8(of, column, place);
    if (rest > 4)
        steps_8(of, eights, place);
    else if (rest > 2)
        steps_4(of, eights, place);
    else if (rest == 2)
        steps_2(of, eights, place);
    else if (rest == 1)
        steps_1(of, eights, place);
#else
    for (int32_t k = 0; k < of->rows; k++)
        step_each(of, k, 0, of->columns, w);
#endif
}

static void step_all(size_t inputs, size_t outputs, const factors *x, const factors *dy, float unit,
                     et_random_key_t key, uint16_t *w)
{
    const float limit = unit < 32.0f ? unit : 32.0f; /* beyond are infinities */
    part of; /* member by member: most of it is lists that are filled below */
    of.key = key;
    of.pitch = (ptrdiff_t)outputs;
    of.bound = limit * 2048.0f;
    for (size_t column = 0; column < outputs; column += COLUMNS) {
        const size_t width = outputs - column < COLUMNS ? outputs - column : COLUMNS;
        int32_t count = 0;
        for (size_t j = 0; j < width; j++) {
            const int32_t m = level(dy, key, column + j);
            if (m != 0) {
                of.column[count] = (uint8_t)j;
                of.level[count++] = et_number_of((float)m);
            }
        }
        of.columns = count;
        for (; count % 8 != 0; count++) {
            of.column[count] = of.column[count - 1];
            of.level[count] = of.level[count - 1];
        }
        for (size_t row = 0; row < inputs && of.columns != 0; row += ROWS) {
            const size_t some = inputs - row < ROWS ? inputs - row : ROWS, first = row * outputs + column;
            count = 0;
            for (size_t i = 0; i < some; i++) {
                const int32_t n = level(x, key, row + i);
                if (n != 0) {
                    of.row[count] = (uint8_t)i;
                    of.step[count++] = (float)-n * unit;
                }
            }
            of.rows = count;
            of.first = (uint32_t)(inputs + outputs + first);
            if (count != 0)
                step_part(&of, w + first);
        }
    }
}

et_status et_half_outer_sgd(size_t inputs, size_t outputs, float unscale, float learning_rate, uint32_t seed,
                            uint32_t step, uint32_t stream, const uint16_t *x, const uint16_t *dy, uint16_t *w)
{
    factors rows = {.values = x, .rate = learning_rate * unscale, .first = 0};
    factors columns = {.values = dy, .rate = 1.0f, .first = (uint32_t)inputs};
    const bool finite_rows = measure(&rows, inputs), finite = measure(&columns, outputs) && finite_rows;
    if (rows.most != 0u && columns.most != 0u) {
        const int32_t levels = rows.exponent + columns.exponent - quantum(inputs * outputs, w);
        int32_t few = (levels - (levels & 1)) / 2 - SPARSE; /* rounded down */
        few = few < LEVELS ? few : LEVELS;
        const int32_t many = levels - few < LEVELS ? levels - few : LEVELS;
        rows.scale = rows.rate * et_power_of_two_f32(few - rows.exponent);
        columns.scale = et_power_of_two_f32(many - columns.exponent);
        const float unit = et_power_of_two_f32(rows.exponent - few + columns.exponent - many);
        step_all(inputs, outputs, &rows, &columns, unit, et_random_key(seed, step, stream), w);
    }
    return finite ? ET_OK : ET_NONFINITE_GRADIENT;
}
