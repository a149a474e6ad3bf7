#include "et_product.h"

#include "et_tile.h"
#include "et_turn.h"

#define ET_NEXT_A(m, COLUMNS) a##m += a_step;

#if ET_LANES == 1

#define ET_DECLARE_COLUMN(m, j) float c##m##_##j = 0.0f;
#define ET_DECLARE(m, COLUMNS)                         \
    const float *a##m = of->a + (row + m) * of->a_row; \
    COLUMNS(ET_DECLARE_COLUMN, m)
#define ET_DECLARE_B(m, j) const float *b##j = of->b + (column + j) * of->b_column;
#define ET_LOAD_B(m, j) const float v##j = *b##j;
#define ET_NEXT_B(m, j) b##j += b_step;
#define ET_ADD_COLUMN(m, j) c##m##_##j = et_madd(u, v##j, c##m##_##j);
#define ET_ADD(m, COLUMNS)        \
    {                             \
        const float u = *a##m;    \
        COLUMNS(ET_ADD_COLUMN, m) \
        ET_BARRIER();             \
    }
#define ET_RESUME_COLUMN(m, j) c##m##_##j = of->c[(row + m) * of->c_row + column + j];
#define ET_RESUME(m, COLUMNS) COLUMNS(ET_RESUME_COLUMN, m)
#define ET_STORE_COLUMN(m, j) of->c[(row + m) * of->c_row + column + j] = c##m##_##j;
#define ET_STORE(m, COLUMNS) COLUMNS(ET_STORE_COLUMN, m)

#define ET_DEFINE_PRODUCT(NAME, ROWS, COLUMNS)                                          \
    static ET_NOINLINE void NAME(const et_product *of, ptrdiff_t row, ptrdiff_t column) \
    {                                                                                   \
        ROWS(ET_DECLARE, COLUMNS)                                                       \
        COLUMNS(ET_DECLARE_B, 0)                                                        \
        const ptrdiff_t a_step = of->a_step, b_step = of->b_step;                       \
        if (of->resume) {                                                               \
            ROWS(ET_RESUME, COLUMNS)                                                    \
        }                                                                               \
        for (int32_t k = of->inner; k != 0; k--) {                                      \
            COLUMNS(ET_LOAD_B, 0)                                                       \
            ROWS(ET_ADD, COLUMNS)                                                       \
            ROWS(ET_NEXT_A, COLUMNS)                                                    \
            COLUMNS(ET_NEXT_B, 0)                                                       \
        }                                                                               \
        ROWS(ET_STORE, COLUMNS)                                                         \
    }

ET_DEFINE_PRODUCT(product_4x4, ET_PIXELS_4, ET_COLUMNS_4)
ET_DEFINE_PRODUCT(product_4x1, ET_PIXELS_4, ET_COLUMNS_1)
ET_DEFINE_PRODUCT(product_1x4, ET_PIXELS_1, ET_COLUMNS_4)
ET_DEFINE_PRODUCT(product_1x1, ET_PIXELS_1, ET_COLUMNS_1)

void et_product_sum(const et_product *of)
{
    for (ptrdiff_t row = 0; row < of->rows;) {
        const bool four = of->rows - row >= 4;
        ptrdiff_t column = 0;
        for (; of->columns - column >= 4; column += 4)
            (four ? product_4x4 : product_1x4)(of, row, column);
        for (; column < of->columns; column++)
            (four ? product_4x1 : product_1x1)(of, row, column);
        row += four ? 4 : 1;
    }
}

#else

#if ET_LANES == 4
#define ET_LOAD_B(b) (side_by_side ? et_lanes_load(b, mask) : et_lanes_gather(b, of->b_column, mask))
#define ET_DECLARE_B const bool side_by_side = of->b_column == 1;
#else
#define ET_LOAD_B(b) et_lanes_load(b, mask)
#define ET_DECLARE_B
#endif

/* Where a row of a is: PCs add an index to one of two pointers that move, so that registers suffice for 12 rows; cores
 * without such addresses move a pointer for each row. */
#if ET_LANES == 4
#define ET_DECLARE_A(m, COLUMNS) const float *a##m = of->a + (row + m) * of->a_row;
#define ET_AT(m) *a##m
#define ET_MOVE_A(ROWS) ROWS(ET_NEXT_A, 0)
#else
#define ET_DECLARE_A(m, COLUMNS) const ptrdiff_t a##m = m % 6 * of->a_row;
#define ET_AT(m) (m < 6 ? a : a_behind)[a##m]
#define ET_MOVE_A(ROWS) a += a_step, a_behind += a_step;
#endif
#define ET_DECLARE_C(m, COLUMNS) et_lanes c##m = et_lanes_set(0.0f, mask);
#define ET_RESUME(m, COLUMNS) c##m = et_lanes_load(c + m * c_row, mask);
#if ET_LANES >= 8
#define ET_BEGIN_WITH(m, COLUMNS) c##m = et_lanes_set(of->initial[row + m], mask);
#define ET_BEGIN(ROWS)                        \
    if (resume) {                             \
        ROWS(ET_RESUME, 0)                    \
    } else if (of->initial != NULL) {         \
        ROWS(ET_BEGIN_WITH, 0)                \
    }
#else
#define ET_BEGIN(ROWS)     \
    if (resume) {          \
        ROWS(ET_RESUME, 0) \
    }
#endif
#define ET_ADD(m, COLUMNS) c##m = et_lanes_scale(et_factor_of(ET_AT(m), mask), v, c##m, mask);
#define ET_STORE(m, COLUMNS) et_lanes_store(c + m * c_row, mask, c##m);
#define ET_STEP(ROWS)                    \
    {                                    \
        const et_lanes v = ET_LOAD_B(b); \
        ROWS(ET_ADD, 0)                  \
        ET_MOVE_A(ROWS)                  \
    }

/* `times` times ROWS x 16 results over of->inner steps; b is at `b`, on hosts with its columns side by side. */
#define ET_DEFINE_PRODUCT(NAME, ROWS, COUNT)                                                                       \
    static ET_NOINLINE void NAME(const et_product *of, ptrdiff_t row, ptrdiff_t times, const float *b_first,       \
                                 ptrdiff_t b_step, float *c, et_mask mask, bool resume)                            \
    {                                                                                                              \
        const ptrdiff_t a_step = of->a_step, c_row = of->c_row;                                                    \
        for (; times != 0; times--, row += COUNT, c += COUNT * c_row) {                                            \
            const float *a = of->a + row * of->a_row, *a_behind = COUNT > 6 ? a + 6 * of->a_row : a, *b = b_first; \
            (void)a, (void)a_behind;                                                                               \
            ET_DECLARE_B                                                                                           \
            ROWS(ET_DECLARE_A, 0)                                                                                  \
            ROWS(ET_DECLARE_C, 0)                                                                                  \
            ET_BEGIN(ROWS)                                                                                         \
            for (int32_t k = of->inner; k != 0; k--, b += b_step)                                                  \
                ET_STEP(ROWS)                                                                                      \
            ROWS(ET_STORE, 0)                                                                                      \
        }                                                                                                          \
    }

#if ET_LANES == 16
ET_DEFINE_PRODUCT(product_12, ET_PIXELS_12, 12)
ET_DEFINE_PRODUCT(product_10, ET_PIXELS_10, 10)
ET_DEFINE_PRODUCT(product_8, ET_PIXELS_8, 8)
#endif
ET_DEFINE_PRODUCT(product_6, ET_PIXELS_6, 6)
ET_DEFINE_PRODUCT(product_4, ET_PIXELS_4, 4)
ET_DEFINE_PRODUCT(product_2, ET_PIXELS_2, 2)
ET_DEFINE_PRODUCT(product_1, ET_PIXELS_1, 1)

typedef void product_function(const et_product *of, ptrdiff_t row, ptrdiff_t times, const float *b, ptrdiff_t b_step,
                              float *c, et_mask mask, bool resume);

/* Those of so many rows; the last one has one. */
typedef struct {
    int32_t rows;
    product_function *product;
} product_tile;

/* All rows from `row` on of up to 16 columns; `part` has the steps to do. */
static void multiply_panel(const et_product *part, ptrdiff_t row, ptrdiff_t column, const float *b, ptrdiff_t b_step,
                           bool resume)
{
    static const product_tile tiles[] = {
#if ET_LANES == 16
        {12, product_12}, {10, product_10}, {8, product_8},
#endif
        {6, product_6},   {4, product_4}, {2, product_2}, {1, product_1},
    };
    const ptrdiff_t left = part->columns - column;
    const et_mask mask = et_mask_first(left < ET_PANEL ? (int32_t)left : ET_PANEL);
    for (const product_tile *tile = tiles; row < part->rows; tile++) {
        const ptrdiff_t times = (part->rows - row) / tile->rows;
        if (times != 0)
            tile->product(part, row, times, b, b_step, part->c + row * part->c_row + column, mask, resume);
        row += times * tile->rows;
    }
}

#if ET_LANES == 4

void et_product_sum(const et_product *of)
{
    for (ptrdiff_t column = 0; column < of->columns; column += ET_PANEL)
        multiply_panel(of, 0, column, of->b + column * of->b_column, of->b_step, of->resume);
}

#else

/* A transposed b is turned, 16 columns and so many steps at a time. */
#define ET_TURNED_STEPS 896

/* The first rows do that as they go, so many steps ahead of their products, which take as long anyway. */
#define ET_TURNED_AHEAD 12
#if ET_LANES == 16
#define ET_TURNING_ROWS 12
#define ET_TURNING ET_PIXELS_12
#else
#define ET_TURNING_ROWS 6
#define ET_TURNING ET_PIXELS_6
#endif

static ET_NOINLINE void turn_and_multiply(const et_product *of, const float *from, float *turned, float *c, bool resume)
{
    const et_mask mask = et_mask_first(ET_PANEL);
    const ptrdiff_t a_step = of->a_step, c_row = of->c_row, pitch = of->b_column;
    const float *a = of->a, *a_behind = ET_TURNING_ROWS > 6 ? a + 6 * of->a_row : a, *b = turned;
    const ptrdiff_t row = 0;
    const int32_t inner = of->inner, whole = inner & ~3;
    ET_TURNING(ET_DECLARE_A, 0)
    ET_TURNING(ET_DECLARE_C, 0)
    ET_BEGIN(ET_TURNING)
    et_turn_panel(ET_PANEL, inner - whole, from + whole, pitch, turned + whole * ET_PANEL);
    for (int32_t k = 0, ahead = 0; k < inner;) {
        for (; ahead < whole && ahead < k + ET_TURNED_AHEAD; ahead += 4) {
            et_turn_8_by_4(from + ahead, pitch, turned + ahead * ET_PANEL);
            et_turn_8_by_4(from + 8 * pitch + ahead, pitch, turned + ahead * ET_PANEL + 8);
        }
        for (const int32_t end = inner - k < 4 ? inner : k + 4; k < end; k++, b += ET_PANEL)
            ET_STEP(ET_TURNING)
    }
    ET_TURNING(ET_STORE, 0)
}

/* Turns up to 16 columns of `part`; gives how many rows of their products are done. */
static ptrdiff_t turn(const et_product *part, ptrdiff_t column, float *turned, bool resume)
{
    const float *from = part->b + column * part->b_column;
    const ptrdiff_t left = part->columns - column;
    if (left >= ET_PANEL && part->rows >= ET_TURNING_ROWS) {
        turn_and_multiply(part, from, turned, part->c + column, resume);
        return ET_TURNING_ROWS;
    }
    et_turn_panel(left < ET_PANEL ? (int32_t)left : ET_PANEL, part->inner, from, part->b_column, turned);
    return 0;
}

void et_product_sum(const et_product *of)
{
    float turned[ET_TURNED_STEPS * ET_PANEL];
    for (ptrdiff_t column = 0; column < of->columns; column += ET_PANEL) {
        if (of->b_column == 1) {
            multiply_panel(of, 0, column, of->b + column, of->b_step, of->resume);
            continue;
        }
        for (int32_t first = 0; first < of->inner; first += ET_TURNED_STEPS) {
            const bool resume = first != 0 || of->resume;
            et_product part = *of;
            part.inner = of->inner - first < ET_TURNED_STEPS ? of->inner - first : ET_TURNED_STEPS;
            part.a += first * of->a_step;
            part.b += first;
            const ptrdiff_t rows = turn(&part, column, turned, resume);
            multiply_panel(&part, rows, column, turned, ET_PANEL, resume);
        }
    }
}

#endif

#endif
