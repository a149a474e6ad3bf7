/* Where the finished sums of a weight's gradient go. What the kernels et_..._grad_weight and et_..._update have in
 * common; not for callers.
 *
 * An update needs no buffer for the gradient: w = madd(-learning_rate, g, w), where g is the complete sum, or
 * madd(weight_decay, w, sum) unless weight_decay is 0, as et_sgd_f32 has it. A weight whose sum is not finite is
 * left as it was, and so are its states; all other weights are updated, in whatever order the sums come (N8).
 */
#ifndef ET_SINK_H
#define ET_SINK_H

#include "et_math.h"
#include "et_optimizer.h"
#include "et_tile.h"

typedef enum {
    ET_SINK_STORE = 0, /* overwrites the target */
    ET_SINK_ADD = 1,   /* adds to the target by one plain addition */
    ET_SINK_UPDATE = 2, /* the target is the weight */
    ET_SINK_RULE = 3    /* the target is the weight, and a rule with states of its own says what becomes of it */
} et_sink_mode;

typedef struct et_sink et_sink;

/* Updates `count` weights from their sums, and the states that lie as far from their own beginnings as the weights from
 * `base`; gives whether all sums were finite. */
typedef bool et_sink_rule(const et_sink *sink, int32_t count, const float *sums, float *w);

struct et_sink {
    et_sink_mode mode;
    float back; /* minus the learning rate */
    float weight_decay;
    bool failed; /* a sum was not finite */
#if ET_WALK
    bool goes_on; /* sums do not begin at 0 but at what the target holds, and are stored */
#endif
    /* Of a rule alone. */
    et_sink_rule *rule;
    const float *base;
    float *first;  /* velocity, or mean */
    float *second; /* variance */
    float momentum;
    bool nesterov;
    float correction;
    const et_adam *adam;
};

/* Whether sums need not go through et_sink_take: a kernel may store them, or update with `back`, if they are finite. */
static inline bool et_sink_is_direct(const et_sink *sink)
{
    return sink->mode == ET_SINK_STORE || (sink->mode == ET_SINK_UPDATE && sink->weight_decay == 0.0f);
}

/* For the gradient itself; `accumulate` as et_conv_grad_weight_f32 has it. */
et_sink et_sink_gradient(int32_t accumulate);

/* For the weight. */
et_sink et_sink_update(float learning_rate, float weight_decay);

/* The rule of et_sgd_momentum_f32, and of et_adam_f32, for each weight whose sum is finite. */
bool et_sink_momentum_rule(const et_sink *sink, int32_t count, const float *sums, float *w);
bool et_sink_adam_rule(const et_sink *sink, int32_t count, const float *sums, float *w);

/* For the weight and its velocity. */
static inline et_sink et_sink_momentum(float learning_rate, float weight_decay, float momentum, bool nesterov,
                                       const float *w, float *velocity)
{
    const et_sink sink = {.mode = ET_SINK_RULE,
                          .back = -learning_rate,
                          .weight_decay = weight_decay,
                          .rule = et_sink_momentum_rule,
                          .base = w,
                          .first = velocity,
                          .momentum = momentum,
                          .nesterov = nesterov};
    return sink;
}

/* For the weight, its mean and its variance. */
static inline et_sink et_sink_adam(float learning_rate, const et_adam *options, const float *powers, const float *w,
                                   float *m, float *v)
{
    const float rate = learning_rate / (1.0f - powers[0]);
    const et_sink sink = {.mode = ET_SINK_RULE,
                          .back = -rate,
                          .weight_decay = options->weight_decay,
                          .rule = et_sink_adam_rule,
                          .base = w,
                          .first = m,
                          .second = v,
                          .correction = et_sqrt_f32(1.0f - powers[1]),
                          .adam = options};
    return sink;
}

/* Whether the sums in the registers of a tile are all finite. Times 0 an infinity or a NaN is NaN and anything else 0:
 * one multiply-add each tells; where that is a call, the exponents do. With vectors `mask` says which lanes exist. */
#if ET_LANES > 1
#define et_watch ET_V()
#define ET_WATCH_START ET_V(_set)(0.0f, mask)
#define ET_WATCH(watch, sum) watch = ET_V(_scale)(ET_V(_factor_of)(0.0f, mask), sum, watch, mask);
#define ET_WATCH_IS_GOOD(watch) ET_V(_are_zero)(watch, mask)
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
