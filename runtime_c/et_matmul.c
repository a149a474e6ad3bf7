#include "et_matmul.h"

#include "et_tile.h"

/* One product as strides, so that transposed matrices need no code of their own: a[m * a_row + k * a_step] and
 * b[k * b_step + n * b_column]. */
typedef struct {
    int32_t rows;
    int32_t inner;
    int32_t columns;
    ptrdiff_t a_row;
    ptrdiff_t a_step;
    ptrdiff_t b_column;
    ptrdiff_t b_step;
    const float *a;
    const float *b;
    float *c;
} product;

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
#define ET_STORE_COLUMN(m, j) of->c[(row + m) * (ptrdiff_t)of->columns + column + j] = c##m##_##j;
#define ET_STORE(m, COLUMNS) COLUMNS(ET_STORE_COLUMN, m)

#define ET_DEFINE_PRODUCT(NAME, ROWS, COLUMNS)                                       \
    static ET_NOINLINE void NAME(const product *of, ptrdiff_t row, ptrdiff_t column) \
    {                                                                                \
        ROWS(ET_DECLARE, COLUMNS)                                                    \
        COLUMNS(ET_DECLARE_B, 0)                                                     \
        const ptrdiff_t a_step = of->a_step, b_step = of->b_step;                    \
        for (int32_t k = of->inner; k != 0; k--) {                                   \
            COLUMNS(ET_LOAD_B, 0)                                                    \
            ROWS(ET_ADD, COLUMNS)                                                    \
            ROWS(ET_NEXT_A, COLUMNS)                                                 \
            COLUMNS(ET_NEXT_B, 0)                                                    \
        }                                                                            \
        ROWS(ET_STORE, COLUMNS)                                                      \
    }

ET_DEFINE_PRODUCT(product_4x4, ET_PIXELS_4, ET_COLUMNS_4)
ET_DEFINE_PRODUCT(product_4x1, ET_PIXELS_4, ET_COLUMNS_1)
ET_DEFINE_PRODUCT(product_1x4, ET_PIXELS_1, ET_COLUMNS_4)
ET_DEFINE_PRODUCT(product_1x1, ET_PIXELS_1, ET_COLUMNS_1)

static void multiply(const product *of)
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

#define ET_DECLARE_A(m, COLUMNS) const float *a##m = of->a + (row + m) * of->a_row;
#define ET_DECLARE_C(m, COLUMNS) et_lanes c##m = et_lanes_set(0.0f, mask);
#define ET_RESUME(m, COLUMNS) c##m = et_lanes_load(c + m * columns, mask);
#define ET_ADD(m, COLUMNS) c##m = et_lanes_scale(et_factor_of(*a##m, mask), v, c##m, mask);
#define ET_STORE(m, COLUMNS) et_lanes_store(c + m * columns, mask, c##m);

/* ROWS x 16 results over of->inner steps; b is at `b`, on hosts with its columns side by side. */
#define ET_DEFINE_PRODUCT(NAME, ROWS)                                                                          \
    static ET_NOINLINE void NAME(const product *of, ptrdiff_t row, const float *b, ptrdiff_t b_step, float *c, \
                                 et_mask mask, bool resume)                                                    \
    {                                                                                                          \
        const ptrdiff_t a_step = of->a_step, columns = of->columns;                                            \
        ET_DECLARE_B                                                                                           \
        ROWS(ET_DECLARE_A, 0)                                                                                  \
        ROWS(ET_DECLARE_C, 0)                                                                                  \
        if (resume) {                                                                                          \
            ROWS(ET_RESUME, 0)                                                                                 \
        }                                                                                                      \
        for (int32_t k = of->inner; k != 0; k--, b += b_step) {                                                \
            const et_lanes v = ET_LOAD_B(b);                                                                   \
            ROWS(ET_ADD, 0)                                                                                    \
            ROWS(ET_NEXT_A, 0)                                                                                 \
        }                                                                                                      \
        ROWS(ET_STORE, 0)                                                                                      \
    }

ET_DEFINE_PRODUCT(product_6, ET_PIXELS_6)
ET_DEFINE_PRODUCT(product_2, ET_PIXELS_2)
ET_DEFINE_PRODUCT(product_1, ET_PIXELS_1)

/* All rows of up to 16 columns; `part` has the steps to do. */
static void multiply_panel(const product *part, ptrdiff_t column, const float *b, ptrdiff_t b_step, bool resume)
{
    const ptrdiff_t left = part->columns - column;
    const et_mask mask = et_mask_first(left < ET_PANEL ? (int32_t)left : ET_PANEL);
    for (ptrdiff_t row = 0; row < part->rows;) {
        float *c = part->c + row * part->columns + column;
        const ptrdiff_t rows = part->rows - row >= 6 ? 6 : part->rows - row >= 2 ? 2 : 1;
        (rows == 6 ? product_6 : rows == 2 ? product_2 : product_1)(part, row, b, b_step, c, mask, resume);
        row += rows;
    }
}

#if ET_LANES == 4

static void multiply(const product *of)
{
    for (ptrdiff_t column = 0; column < of->columns; column += ET_PANEL)
        multiply_panel(of, column, of->b + column * of->b_column, of->b_step, false);
}

#else

/* A transposed b is turned, 16 columns and so many steps at a time. */
#define ET_TURNED_STEPS 256

static void multiply(const product *of)
{
    float turned[ET_TURNED_STEPS * ET_PANEL];
    for (ptrdiff_t column = 0; column < of->columns; column += ET_PANEL) {
        const float *b = of->b + column * of->b_column;
        if (of->b_column == 1) {
            multiply_panel(of, column, b, of->b_step, false);
            continue;
        }
        const ptrdiff_t left = of->columns - column, width = left < ET_PANEL ? left : ET_PANEL;
        for (int32_t first = 0; first < of->inner; first += ET_TURNED_STEPS) {
            product part = *of;
            part.inner = of->inner - first < ET_TURNED_STEPS ? of->inner - first : ET_TURNED_STEPS;
            part.a += first * of->a_step;
            for (ptrdiff_t j = 0; j < width; j++)
                for (ptrdiff_t k = 0; k < part.inner; k++)
                    turned[k * ET_PANEL + j] = b[j * of->b_column + (first + k) * of->b_step];
            multiply_panel(&part, column, turned, ET_PANEL, first != 0);
        }
    }
}

#endif

#endif

et_status et_matmul_f32(const et_matmul_shape *shape, const float *a, const float *b, float *c)
{
    product of = {
        .rows = shape->rows,
        .inner = shape->inner,
        .columns = shape->columns,
        .a_row = shape->transpose_a ? 1 : shape->inner,
        .a_step = shape->transpose_a ? shape->rows : 1,
        .b_column = shape->transpose_b ? shape->inner : 1,
        .b_step = shape->transpose_b ? 1 : shape->columns,
        .a = a,
        .b = b,
        .c = c,
    };
    for (int32_t i = 0; i < shape->batch; i++) {
        multiply(&of);
        of.a += shape->a_step;
        of.b += shape->b_step;
        of.c += (ptrdiff_t)shape->rows * shape->columns;
    }
    return ET_OK;
}
