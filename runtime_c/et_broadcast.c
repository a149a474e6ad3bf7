/* See et_broadcast.h. */
#include "et_broadcast.h"

#include "et_block.h"
#include "et_share.h"

/* ---- walking over the rows of a result: all axes but the last */

typedef struct {
    ptrdiff_t a, b; /* where the row begins in each operand */
    int32_t left[ET_BROADCAST_MAX_AXES];
} walk;

static walk first_row(const et_broadcast *shape)
{
    walk here;
    here.a = 0;
    here.b = 0;
    for (int32_t k = 0; k < shape->axes; ++k)
        here.left[k] = shape->axis[k].size;
    return here;
}

/* Goes on to the next row; false after the last. */
static bool next_row(const et_broadcast *shape, walk *here)
{
    for (int32_t k = shape->axes - 2; k >= 0; --k) {
        const et_broadcast_axis *axis = &shape->axis[k];
        here->a += axis->a;
        here->b += axis->b;
        if (--here->left[k] > 0)
            return true;
        here->left[k] = axis->size;
        here->a -= (ptrdiff_t)axis->a * axis->size;
        here->b -= (ptrdiff_t)axis->b * axis->size;
    }
    return false;
}

/* ---- the binary operations */

#define BOTH(i) OPERATION(first[i], second[i])
#define FIRST(i) OPERATION(first[i], scalar)
#define SECOND(i) OPERATION(scalar, second[i])

/* The body of a kernel for the macro OPERATION. */
#define BROADCAST_BODY(SHAPE, A, B, Y)                                              \
    do {                                                                            \
        const et_broadcast_axis *const row = &(SHAPE)->axis[(SHAPE)->axes - 1];     \
        const size_t count = (size_t)row->size;                                     \
        walk here = first_row(SHAPE);                                               \
        do {                                                                        \
            const float *const first = (A) + here.a;                                \
            const float *const second = (B) + here.b;                               \
            if (row->b == 0) {                                                      \
                const float scalar = *second;                                       \
                ET_EACH(count, Y, FIRST);                                           \
            } else if (row->a == 0) {                                               \
                const float scalar = *first;                                        \
                ET_EACH(count, Y, SECOND);                                          \
            } else {                                                                \
                ET_EACH(count, Y, BOTH);                                            \
            }                                                                       \
            (Y) += count;                                                           \
        } while (next_row(SHAPE, &here));                                           \
    } while (0)

et_status et_add_broadcast_f32(const et_broadcast *shape, const float *a, const float *b, float *y)
{
#define OPERATION(p, q) ((p) + (q))
    BROADCAST_BODY(shape, a, b, y);
#undef OPERATION
    return ET_OK;
}

et_status et_sub_broadcast_f32(const et_broadcast *shape, const float *a, const float *b, float *y)
{
#define OPERATION(p, q) ((p) - (q))
    BROADCAST_BODY(shape, a, b, y);
#undef OPERATION
    return ET_OK;
}

et_status et_mul_broadcast_f32(const et_broadcast *shape, const float *a, const float *b, float *y)
{
#define OPERATION(p, q) ((p) * (q))
    BROADCAST_BODY(shape, a, b, y);
#undef OPERATION
    return ET_OK;
}

et_status et_div_broadcast_f32(const et_broadcast *shape, const float *a, const float *b, float *y)
{
#define OPERATION(p, q) ((p) / (q))
    BROADCAST_BODY(shape, a, b, y);
#undef OPERATION
    return ET_OK;
}

et_status et_prelu_broadcast_f32(const et_broadcast *shape, const float *x, const float *slope, float *y)
{
#define OPERATION(p, q) ((p) > 0.0f ? (p) : (p) * (q))
    BROADCAST_BODY(shape, x, slope, y);
#undef OPERATION
    return ET_OK;
}

et_status et_prelu_grad_input_f32(
    const et_broadcast *shape, const float *dy, const float *x, const float *slope, float *dx)
{
    const et_broadcast_axis *const row = &shape->axis[shape->axes - 1];
    const size_t count = (size_t)row->size;
    walk here = first_row(shape);
    do {
        const float *const slopes = slope + here.b;
        if (row->b == 0) {
            const float scalar = *slopes;
#define VALUE(i) (x[i] > 0.0f ? dy[i] : dy[i] * scalar)
            ET_EACH(count, dx, VALUE);
#undef VALUE
        } else {
#define VALUE(i) (x[i] > 0.0f ? dy[i] : dy[i] * slopes[i])
            ET_EACH(count, dx, VALUE);
#undef VALUE
        }
        x += count;
        dy += count;
        dx += count;
    } while (next_row(shape, &here));
    return ET_OK;
}

/* ---- sums */

/* Outputs that are summed side by side, each in its own accumulator. */
#if ET_SCALAR_CORE
#define WIDE 8
#else
#define WIDE 32
#endif

/* Goes on to the next run along the last summed axis; false after the last. */
static bool next_run(const et_sum_to *shape, int32_t *left, ptrdiff_t *offset)
{
    for (int32_t k = shape->summed_axes - 2; k >= 0; --k) {
        const et_sum_axis *axis = &shape->summed[k];
        *offset += axis->stride;
        if (--left[k] > 0)
            return true;
        left[k] = axis->size;
        *offset -= (ptrdiff_t)axis->stride * axis->size;
    }
    return false;
}

/* Threads hand sums on: what one thread has come to is where the next goes on. In a walk over the batch the first goes on
 * from y, where the part before has left the sums. */
#if ET_WALK
#define ON , bool goes_on
#define PASS_ON , goes_on
#define BEFORE(y) (goes_on ? (y) : NULL)
#else
#define ON
#define PASS_ON
#define BEFORE(y) NULL
#endif
#if ET_THREADS || ET_WALK
#define GIVEN , const float *given
#define FIRST_SUM(o) (given != NULL ? given[o] : 0.0f)
#endif
#if ET_THREADS
#define SUM(NAME, step)                                        \
    do {                                                       \
        const float *const given_ = et_threads_given();        \
        float *const next_ = et_threads_next();                \
        NAME(shape, x, step, next_ != NULL ? next_ : y, given_ != NULL ? given_ : BEFORE(y)); \
        et_threads_tile_done();                                \
    } while (0)
#elif ET_WALK
#define SUM(NAME, step) NAME(shape, x, step, y, BEFORE(y))
#else
#define GIVEN
#define FIRST_SUM(o) 0.0f
#define SUM(NAME, step) NAME(shape, x, step, y)
#endif

/* y[0..WIDTH) = sums that begin at x, x + STEP, ...; a function per width, so that the accumulators are registers. */
#define DEFINE_SUMS(NAME, WIDTH, STEP)                                                  \
    static void NAME(const et_sum_to *shape, const float *x, ptrdiff_t step, float *y GIVEN)  \
    {                                                                                   \
        const et_sum_axis *const run = &shape->summed[shape->summed_axes - 1];          \
        float sum[WIDTH];                                                               \
        int32_t left[ET_BROADCAST_MAX_AXES];                                            \
        ptrdiff_t offset = 0;                                                           \
        (void)step;                                                                     \
        for (int32_t k = 0; k < shape->summed_axes; ++k)                                \
            left[k] = shape->summed[k].size;                                            \
        for (int32_t o = 0; o < (WIDTH); ++o)                                           \
            sum[o] = FIRST_SUM(o);                                                      \
        do {                                                                            \
            const float *from = x + offset;                                             \
            const ptrdiff_t stride = run->stride;                                       \
            for (int32_t j = run->size; j > 0; --j) {                                   \
                ET_UNROLL                                                               \
                for (int32_t o = 0; o < (WIDTH); ++o)                                   \
                    sum[o] += from[o * (STEP)];                                         \
                from += stride;                                                         \
            }                                                                           \
        } while (next_run(shape, left, &offset));                                       \
        for (int32_t o = 0; o < (WIDTH); ++o)                                           \
            y[o] = sum[o];                                                              \
    }

DEFINE_SUMS(sums_side_by_side, WIDE, 1)
#if !ET_SCALAR_CORE
DEFINE_SUMS(sixteen_side_by_side, 16, 1)
DEFINE_SUMS(eight_side_by_side, 8, 1)
#endif
DEFINE_SUMS(four_sums, 4, step)
DEFINE_SUMS(one_sum, 1, step)

/* The outputs along the last kept axis. */
static void sum_row(const et_sum_to *shape, const float *x, float *y ON)
{
    const et_sum_axis *const row = &shape->kept[shape->kept_axes - 1];
    const ptrdiff_t step = row->stride;
    int32_t left = row->size;
    if (step == 1) {
        for (; left >= WIDE; left -= WIDE) {
            SUM(sums_side_by_side, 1);
            x += WIDE;
            y += WIDE;
        }
#if !ET_SCALAR_CORE
        for (int32_t some = 16; some >= 8; some -= 8)
            for (; left >= some; left -= some) {
                SUM((some == 16 ? sixteen_side_by_side : eight_side_by_side), 1);
                x += some;
                y += some;
            }
#endif
    }
    for (; left >= 4; left -= 4) {
        SUM(four_sums, step);
        x += 4 * step;
        y += 4;
    }
    for (; left > 0; --left) {
        SUM(one_sum, step);
        x += step;
        y += 1;
    }
}

#if ET_THREADS
/* This thread's share of the first summed axis, or nothing where threads do not pay: then one has the whole. */
static bool take_part(et_sum_to *part, et_sum_axis *axes, const float **x)
{
    const int32_t threads = et_threads_count();
    ptrdiff_t terms = 1;
    for (int32_t k = 0; k < part->summed_axes; ++k)
        terms *= part->summed[k].size;
    if (threads == 1)
        return true;
    if (part->summed[0].size < threads || terms < 1024) {
        return et_threads_index() == 0 && et_threads_alone();
    }
    const et_share own = et_share_of(part->summed[0].size);
    for (int32_t k = 0; k < part->summed_axes; ++k)
        axes[k] = part->summed[k];
    axes[0].size = (int32_t)(own.end - own.first);
    *x += own.first * axes[0].stride;
    part->summed = axes;
    return true;
}
#endif

#if ET_WALK
static et_status sum_to(const et_sum_to *shape, const float *x, float *y, bool goes_on)
#else
et_status et_sum_to_f32(const et_sum_to *shape, const float *x, float *y)
#endif
{
#if ET_THREADS
    et_sum_axis axes[ET_BROADCAST_MAX_AXES];
    et_sum_to part = *shape;
    shape = &part;
    if (!take_part(&part, axes, &x))
        return ET_OK;
#endif
    const int32_t outer = shape->kept_axes - 1;
    int32_t index[ET_BROADCAST_MAX_AXES] = {0};
    for (;;) {
        sum_row(shape, x, y PASS_ON);
        y += shape->kept[outer].size;
        int32_t k = outer - 1;
        for (; k >= 0; --k) {
            x += shape->kept[k].stride;
            if (++index[k] < shape->kept[k].size)
                break;
            index[k] = 0;
            x -= (ptrdiff_t)shape->kept[k].stride * shape->kept[k].size;
        }
        if (k < 0)
            return ET_OK;
    }
}

#if ET_WALK
et_status et_sum_to_f32(const et_sum_to *shape, const float *x, float *y)
{
    return sum_to(shape, x, y, false);
}

et_status et_sum_on_f32(const et_sum_to *shape, bool goes_on, const float *x, float *y)
{
    return sum_to(shape, x, y, goes_on);
}
#endif
