/* See et_activation.h. */
#include "et_activation.h"

#include "et_each.h"
#include "et_gate.h"
#include "et_math.h"
#include "et_rectify.h"
#include "et_share.h"

static inline float clip(float x, float low, float high)
{
    const float above = x > low ? x : low;
    return above < high ? above : high;
}

static inline float clip_to_unit(float x)
{
#if ET_HAS_FMAX
    return et_instruction_min(et_instruction_max(x, 0.0f), 1.0f);
#else
    return clip(x, 0.0f, 1.0f);
#endif
}

et_status et_relu_f32(size_t count, const float *x, float *y)
{
    const size_t first = et_share_elements(&count);
    x += first;
    y += first;
#define VALUE(i) et_relu(x[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

/* Rolled up, as small code has it, a loop that writes only zeros saves nothing over one that writes all. */
#define WRITES_ZEROS (ET_SCALAR_CORE && !ET_SMALL_CODE)

#if WRITES_ZEROS
/* Most often dx is dy: then only zeros are written. The loop for a dx in the place of y, which is rare, costs little code. */
static void pass_gate(et_gate gate, size_t count, const float *dy, float *dx)
{
    if (dx != dy) {
#define VALUE(i) dy[i]
        ET_EACH(count, dx, VALUE);
#undef VALUE
    }
    et_gate_close(gate, 0, count, dx);
}

#define EACH_OR_FEW(count, y, VALUE)         \
    for (size_t i = 0; i < (count); ++i) \
        (y)[i] = VALUE(i);
#else
#define pass_gate(gate, count, dy, dx) ((void)(gate))
#define EACH_OR_FEW ET_EACH
#endif

et_status et_relu_grad_f32(size_t count, const float *dy, const float *y, float *dx)
{
    const size_t first = et_share_elements(&count);
    if (WRITES_ZEROS && dx != y) {
        pass_gate(et_gate_of_relu(y, dx), count, dy, dx);
        return ET_OK;
    }
    dy += first;
    y += first;
    dx += first;
#define VALUE(i) (et_is_positive(y[i]) ? dy[i] : 0.0f)
    EACH_OR_FEW(count, dx, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_leaky_relu_f32(size_t count, float alpha, const float *x, float *y)
{
#define VALUE(i) (et_is_positive(x[i]) ? x[i] : alpha * x[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_leaky_relu_grad_f32(size_t count, float alpha, const float *dy, const float *sign, float *dx)
{
#define VALUE(i) (et_is_positive(sign[i]) ? dy[i] : alpha * dy[i])
    ET_EACH(count, dx, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_prelu_f32(size_t count, const float *x, const float *slope, float *y)
{
#define VALUE(i) (et_is_positive(x[i]) ? x[i] : x[i] * slope[i])
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_prelu_grad_slope_f32(size_t count, const float *dy, const float *x, float *dslope)
{
#define VALUE(i) (et_is_positive(x[i]) ? 0.0f : dy[i] * x[i])
    ET_EACH(count, dslope, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_clip_f32(size_t count, float low, float high, const float *x, float *y)
{
#if ET_HAS_FMAX
    /* The comparisons do not tell -0 from +0, as the instructions do. It shows only with a zero for a bound. */
    if (et_bits_f32(low) != ET_SIGN_BIT && high != 0.0f) {
#define VALUE(i) et_instruction_min(et_instruction_max(x[i], low), high)
        ET_EACH(count, y, VALUE);
#undef VALUE
        return ET_OK;
    }
#endif
#define VALUE(i) clip(x[i], low, high)
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_clip_grad_f32(size_t count, float low, float high, const float *dy, const float *x, float *dx)
{
    if (et_gate_has_bounds(low, high)) {
        const et_gate gate = et_gate_of(low, high, x, dx);
        if (WRITES_ZEROS && dx != x) {
            pass_gate(gate, count, dy, dx);
            return ET_OK;
        }
#define VALUE(i) (et_gate_passes(gate, x[i]) ? dy[i] : 0.0f)
        EACH_OR_FEW(count, dx, VALUE);
#undef VALUE
        return ET_OK;
    }
#define VALUE(i) (x[i] >= low && x[i] <= high ? dy[i] : 0.0f)
    ET_EACH(count, dx, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_hard_sigmoid_f32(size_t count, float alpha, float beta, const float *x, float *y)
{
#define VALUE(i) clip_to_unit(et_madd(alpha, x[i], beta))
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_hard_sigmoid_grad_f32(size_t count, float alpha, const float *dy, const float *y, float *dx)
{
#define VALUE(i) (y[i] > 0.0f && y[i] < 1.0f ? alpha * dy[i] : 0.0f)
    ET_EACH(count, dx, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_hard_swish_f32(size_t count, const float *x, float *y)
{
    const float sixth = 1.0f / 6.0f;
#define VALUE(i) (x[i] * clip_to_unit(et_madd(sixth, x[i], 0.5f)))
    ET_EACH(count, y, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_hard_swish_grad_f32(size_t count, const float *dy, const float *x, float *dx)
{
    const float third = 1.0f / 3.0f;
#define VALUE(i) (x[i] <= -3.0f ? 0.0f : x[i] >= 3.0f ? dy[i] : dy[i] * et_madd(third, x[i], 0.5f))
    ET_EACH(count, dx, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_sigmoid_each_f32(size_t count, const float *x, float *y)
{
    for (size_t i = 0; i < count; ++i)
        y[i] = et_sigmoid_f32(x[i]);
    return ET_OK;
}

et_status et_sigmoid_grad_f32(size_t count, const float *dy, const float *y, float *dx)
{
#define VALUE(i) (dy[i] * (y[i] * (1.0f - y[i])))
    ET_EACH(count, dx, VALUE);
#undef VALUE
    return ET_OK;
}

et_status et_tanh_each_f32(size_t count, const float *x, float *y)
{
    for (size_t i = 0; i < count; ++i)
        y[i] = et_tanh_f32(x[i]);
    return ET_OK;
}

et_status et_tanh_grad_f32(size_t count, const float *dy, const float *y, float *dx)
{
#define VALUE(i) (dy[i] * et_madd(-y[i], y[i], 1.0f))
    ET_EACH(count, dx, VALUE);
#undef VALUE
    return ET_OK;
}
