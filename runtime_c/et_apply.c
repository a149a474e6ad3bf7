/* See et_apply.h. */
#include "et_apply.h"

#include "et_sink.h"

static et_status take(et_sink *sink, size_t count, const float *sums, float *w)
{
    if (count > INT32_MAX)
        return ET_BAD_ARGUMENT;
    const int32_t all = (int32_t)count;
    et_sink_take(sink, 1, all, sums, all, w, all);
    return et_sink_status(sink);
}

et_status et_apply_update_f32(size_t count, float learning_rate, float weight_decay, const float *sums, float *w)
{
    et_sink sink = et_sink_update(learning_rate, weight_decay);
    return take(&sink, count, sums, w);
}

et_status et_apply_momentum_f32(size_t count, float learning_rate, float weight_decay, float momentum, bool nesterov,
                                const float *sums, float *w, float *velocity)
{
    et_sink sink = et_sink_momentum(learning_rate, weight_decay, momentum, nesterov, w, velocity);
    return take(&sink, count, sums, w);
}

et_status et_apply_adam_f32(size_t count, float learning_rate, const et_adam *options, const float *powers,
                            const float *sums, float *w, float *m, float *v)
{
    et_sink sink = et_sink_adam(learning_rate, options, powers, w, m, v);
    return take(&sink, count, sums, w);
}
