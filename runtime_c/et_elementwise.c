/* See et_elementwise.h. */
#include "et_elementwise.h"

#include "et_each.h"
#include "et_rectify.h"
#include "et_share.h"

et_status et_add_f32(size_t count, const float *a, const float *b, float *y)
{
    const size_t first = et_share_elements(&count);
    a += first;
    b += first;
    y += first;
#define VALUE(i) (a[i] + b[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

#if ET_FORM_RECTIFY
et_status et_add_relu_f32(size_t count, float ceiling, const float *a, const float *b, float *y)
{
    const size_t first = et_share_elements(&count);
    a += first;
    b += first;
    y += first;
#if ET_FORM_CEILING
    if (ceiling < ET_INFINITY) {
#define VALUE(i) et_at_most(et_relu(a[i] + b[i]), ceiling)
        ET_EACH(count, y, VALUE);
#undef VALUE
        return ET_OK;
    }
#endif
    (void)ceiling;
#define VALUE(i) et_relu(a[i] + b[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}
#endif

#if ET_FORM_GATE
et_status et_add_gated_f32(size_t count, float least, float most, const float *a, const float *b, const float *y, float *dx)
{
    if (!et_gate_has_bounds(least, most))
        return ET_BAD_ARGUMENT;
    const size_t first = et_share_elements(&count);
    a += first;
    b += first;
    y += first;
    dx += first;
    const et_gate gate = et_gate_of(least, most, y, dx);
#define VALUE(i) (et_gate_passes(gate, y[i]) ? a[i] + b[i] : 0.0f)
    ET_EACH(count, dx, VALUE);
#undef VALUE
    return ET_OK;
}
#endif

et_status et_sub_f32(size_t count, const float *a, const float *b, float *y)
{
#define VALUE(i) (a[i] - b[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_mul_f32(size_t count, const float *a, const float *b, float *y)
{
#define VALUE(i) (a[i] * b[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_div_f32(size_t count, const float *a, const float *b, float *y)
{
#define VALUE(i) (a[i] / b[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_neg_f32(size_t count, const float *x, float *y)
{
#define VALUE(i) (-x[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_scale_f32(size_t count, float factor, const float *x, float *y)
{
#define VALUE(i) (factor * x[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_zero_f32(size_t count, float *y)
{
#define VALUE(i) 0.0f
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}
