#include "et_matmul.h"

#include "et_product.h"

et_status et_matmul_f32(const et_matmul_shape *shape, const float *a, const float *b, float *c)
{
    et_product of = {
        .rows = shape->rows,
        .inner = shape->inner,
        .columns = shape->columns,
        .a_row = shape->transpose_a ? 1 : shape->inner,
        .a_step = shape->transpose_a ? shape->rows : 1,
        .b_column = shape->transpose_b ? shape->inner : 1,
        .b_step = shape->transpose_b ? 1 : shape->columns,
        .c_row = shape->columns,
        .a = a,
        .b = b,
        .c = c,
    };
    for (int32_t i = 0; i < shape->batch; i++) {
        et_product_sum(&of);
        of.a += shape->a_step;
        of.b += shape->b_step;
        of.c += (ptrdiff_t)shape->rows * shape->columns;
    }
    return ET_OK;
}
