/* Where the finished sums of a weight's gradient go. What the kernels et_..._grad_weight and et_..._update have in
 * common; not for callers.
 *
 * An update needs no buffer for the gradient: w = madd(-learning_rate, g, w), where g is the complete sum, or
 * madd(weight_decay, w, sum) unless weight_decay is 0, as et_sgd_f32 has it. A weight whose sum is not finite is
 * left as it was; all other weights are updated, in whatever order the sums come (N8).
 */
#ifndef ET_SINK_H
#define ET_SINK_H

#include "et_math.h"
#include "et_tile.h"

typedef enum {
    ET_SINK_STORE = 0, /* overwrites the target */
    ET_SINK_ADD = 1,   /* adds to the target by one plain addition */
    ET_SINK_UPDATE = 2 /* the target is the weight */
} et_sink_mode;

typedef struct {
    et_sink_mode mode;
    float back; /* minus the learning rate */
    float weight_decay;
    bool failed; /* a sum was not finite */
} et_sink;

/* Whether sums need not go through et_sink_take: a kernel may store them, or update with `back`, if they are finite. */
static inline bool et_sink_is_direct(const et_sink *sink)
{
    return sink->mode == ET_SINK_STORE || (sink->mode == ET_SINK_UPDATE && sink->weight_decay == 0.0f);
}

/* For the gradient itself. */
et_sink et_sink_gradient(int32_t accumulate);

/* For the weight. */
et_sink et_sink_update(float learning_rate, float weight_decay);

/* Whether the sums in the registers of a tile are all finite. Times 0 an infinity or a NaN is NaN and anything else 0:
 * one multiply-add each tells; where that is a call, the exponents do. With vectors `mask` says which lanes exist. */
#if ET_LANES > 1
typedef et_lanes et_watch;
#define ET_WATCH_START et_lanes_set(0.0f, mask)
#define ET_WATCH(watch, sum) watch = et_lanes_scale(et_factor_of(0.0f, mask), sum, watch, mask);
#define ET_WATCH_IS_GOOD(watch) et_lanes_are_zero(watch, mask)
#elif ET_SMALL_TILES
typedef bool et_watch;
#define ET_WATCH_START true
#define ET_WATCH(watch, sum) watch &= et_is_finite_f32(sum);
#define ET_WATCH_IS_GOOD(watch) (watch)
#else
typedef float et_watch;
#define ET_WATCH_START 0.0f
#define ET_WATCH(watch, sum) watch = et_madd(sum, 0.0f, watch);
#define ET_WATCH_IS_GOOD(watch) ((watch) == 0.0f)
#endif

/* Takes rows x columns sums, `pitch` floats from row to row; those of the target are `target_pitch` apart. Sums and
 * target do not overlap. */
void et_sink_take(et_sink *sink, int32_t rows, int32_t columns, const float *sums, ptrdiff_t pitch, float *target,
                  ptrdiff_t target_pitch);

/* ET_NONFINITE_GRADIENT if a sum that was to update a weight was not finite. */
ET_CHECKED et_status et_sink_status(const et_sink *sink);

/* Whether every product of one of x [count_x] and one of y [count_y], rounded, is finite; both counts at least 1.
 * Magnitudes round monotonically, so the product of the largest two decides. */
bool et_products_finite(size_t count_x, const float *x, size_t count_y, const float *y);

#endif
