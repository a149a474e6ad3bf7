/* See et_half_depthwise.h. Blocks of channels are decoded into scratch, where the float32 kernels compute. */
#include "et_half_depthwise.h"

#include "et_depthwise.h"
#include "et_depthwise_grad_weight.h"

/* The convolution of some channels of some samples. */
static et_conv_shape part_of(const et_conv_shape *shape, int32_t batch, ptrdiff_t channels)
{
    et_conv_shape part = *shape;
    part.batch = batch;
    part.groups = part.channels = part.out_channels = (int32_t)channels;
    return part;
}

static ptrdiff_t in_pixels(const et_conv_shape *shape)
{
    return (ptrdiff_t)shape->height * shape->width;
}

static ptrdiff_t out_pixels(const et_conv_shape *shape)
{
    return (ptrdiff_t)shape->out_height * shape->out_width;
}

static ptrdiff_t taps(const et_conv_shape *shape)
{
    return (ptrdiff_t)shape->kernel_h * shape->kernel_w;
}

/* Channels from `done` on that go together. */
static ptrdiff_t next_block(const et_conv_shape *shape, const et_half_form *form, ptrdiff_t done)
{
    return shape->channels - done < form->block ? shape->channels - done : form->block;
}

et_status et_half_depthwise(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x, const void *w,
                            const float *bias, uint16_t *y, void *scratch)
{
    const ptrdiff_t channels = shape->channels;
    float *image = scratch, *weights = image + form->block * in_pixels(shape);
    float *sums = weights + form->block * taps(shape);
    for (ptrdiff_t done = 0; done < channels; done += form->block) {
        const ptrdiff_t width = next_block(shape, form, done);
        const et_conv_shape part = part_of(shape, 1, width);
        et_half_decode_weights(form, taps(shape), width, w, done, channels, weights);
        for (ptrdiff_t i = 0; i < shape->batch; i++) {
            et_half_decode(form, in_pixels(shape), width, x + i * in_pixels(shape) * channels + done, channels, image);
            ET_TRY(et_depthwise_f32(&part, image, weights, bias != NULL ? bias + done : NULL, sums));
            et_half_encode(form, out_pixels(shape), width, sums, y + i * out_pixels(shape) * channels + done, channels);
        }
    }
    return ET_OK;
}

et_status et_half_depthwise_grad_input(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy,
                                       const void *w, float *dx, void *scratch)
{
    const ptrdiff_t channels = shape->channels;
    float *image = scratch, *weights = image + form->block * out_pixels(shape);
    float *sums = weights + form->block * taps(shape);
    for (ptrdiff_t done = 0; done < channels; done += form->block) {
        const ptrdiff_t width = next_block(shape, form, done);
        const et_conv_shape part = part_of(shape, 1, width);
        et_half_decode_weights(form, taps(shape), width, w, done, channels, weights);
        for (ptrdiff_t i = 0; i < shape->batch; i++) {
            et_half_decode(form, out_pixels(shape), width, dy + i * out_pixels(shape) * channels + done, channels,
                           image);
            ET_TRY(et_depthwise_grad_input_f32(&part, image, weights, sums));
            et_half_unscale(form, in_pixels(shape), width, sums, dx + i * in_pixels(shape) * channels + done, channels);
        }
    }
    return ET_OK;
}

static et_status weight_gradient(const et_conv_shape *shape, const et_half_form *form, et_half_sink *sink,
                                 const uint16_t *x, const uint16_t *dy, float *scratch)
{
    const ptrdiff_t channels = shape->channels;
    const ptrdiff_t sources = shape->batch * in_pixels(shape), results = shape->batch * out_pixels(shape);
    float *inputs = scratch, *gradients = inputs + form->block * sources, *sums = gradients + form->block * results;
    for (ptrdiff_t done = 0; done < channels; done += form->block) {
        const ptrdiff_t width = next_block(shape, form, done);
        const et_conv_shape part = part_of(shape, shape->batch, width);
        et_half_decode(form, sources, width, x + done, channels, inputs);
        et_half_decode(form, results, width, dy + done, channels, gradients);
        ET_TRY(et_depthwise_grad_weight_f32(&part, inputs, gradients, sums, 0));
        for (ptrdiff_t tap = 0; tap < taps(shape); tap++)
            et_half_take(form, sink, width, sums + tap * width, tap * channels + done);
    }
    return et_half_sink_status(sink);
}

et_status et_half_depthwise_grad_weight(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x,
                                        const uint16_t *dy, float *dw, void *scratch)
{
    et_half_sink sink = et_half_sink_gradient(dw);
    return weight_gradient(shape, form, &sink, x, dy, scratch);
}

et_status et_half_depthwise_update(const et_conv_shape *shape, const et_half_form *form, float learning_rate,
                                   float weight_decay, const uint16_t *x, const uint16_t *dy, float *w, void *scratch)
{
    et_half_sink sink = et_half_sink_update(learning_rate, weight_decay, w);
    return weight_gradient(shape, form, &sink, x, dy, scratch);
}

et_status et_half_depthwise_update_stored(
    const et_conv_shape *shape, const et_half_form *form, const et_stored_sgd *options, float learning_rate,
    uint32_t seed, uint32_t step, const uint16_t *x, const uint16_t *dy, uint16_t *stored, void *scratch)
{
    et_half_sink sink = et_half_sink_stored(options, learning_rate, seed, step, stored);
    return weight_gradient(shape, form, &sink, x, dy, scratch);
}
