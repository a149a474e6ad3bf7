/* Some output channels of a tensor [rows][C]: taken out of it, or updated in it.
 *
 * The channels that are picked lie in memory as runs of neighbours, in the whole tensor and in the one that has only
 * them; either may be row-major or in panels, the table says where. Nothing else of the whole tensor is read or written.
 */
#ifndef ET_CHANNELS_H
#define ET_CHANNELS_H

#include "et_base.h"
#include "et_optimizer.h"

/* Element j of row r of a run is at [whole + r * whole_step + j] of the tensor with all channels, and at
 * [part + r * part_step + j] of the one with the picked channels; 0 <= j < count. */
typedef struct {
    int32_t whole;
    int32_t whole_step;
    int32_t part;
    int32_t part_step;
    int32_t count;
} et_channel_run;

typedef struct {
    int32_t rows;
    int32_t runs;
    const et_channel_run *run;
} et_channels;

/* y = the picked channels of x, unchanged.
 *   x  float32 [rows][C];  y  float32 [rows][picked], no overlap */
ET_CHECKED et_status et_take_channels_f32(const et_channels *channels, const float *x, float *y);

/* The kernels of et_optimizer.h for the picked channels of w: gradient and states have only those. Element by element
 * the same bits. w_next must be w; states may be updated in place. The whole gradient is checked first (N8). */
ET_CHECKED et_status et_sgd_channels_f32(
    const et_channels *channels, float learning_rate, float weight_decay, const float *gradient, const float *w,
    float *w_next);
ET_CHECKED et_status et_sgd_momentum_channels_f32(
    const et_channels *channels, float learning_rate, float weight_decay, float momentum, bool nesterov,
    const float *gradient, const float *w, float *w_next, const float *velocity, float *velocity_next);
ET_CHECKED et_status et_adam_channels_f32(
    const et_channels *channels, float learning_rate, const et_adam *options, const float *powers,
    const float *gradient, const float *w, float *w_next, const float *m, float *m_next, const float *v,
    float *v_next);

#endif
