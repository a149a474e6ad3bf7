/* The gradients of the weights of a layer with sums of binary16, and their updates: et_half_native.h, no scratch. */
#ifndef ET_HALF_NATIVE_WEIGHT_H
#define ET_HALF_NATIVE_WEIGHT_H

#include "et_conv_shape.h"
#include "et_half_rows.h"

ET_CHECKED et_status et_half_native_grad_weight(const et_conv_shape *shape, const et_half_form *form,
                                                const uint16_t *x, const uint16_t *dy, float *dw);

ET_CHECKED et_status et_half_native_update(const et_conv_shape *shape, const et_half_form *form, float learning_rate,
                                           float weight_decay, const uint16_t *x, const uint16_t *dy, float *w);

ET_CHECKED et_status et_half_native_update_stored(
    const et_conv_shape *shape, const et_half_form *form, const et_stored_sgd *options, float learning_rate,
    uint32_t seed, uint32_t step, const uint16_t *x, const uint16_t *dy, uint16_t *stored);

#endif
