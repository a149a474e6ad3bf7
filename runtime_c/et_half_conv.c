/* See et_half_conv.h. Blocks of operands are decoded into scratch, where the float32 kernels compute. */
#include "et_half_conv.h"

#include "et_conv.h"
#include "et_conv_grad_input.h"
#include "et_conv_grad_weight.h"

enum { PANEL = 16 };

/* The sizes that all kernels speak of. */
typedef struct {
    ptrdiff_t taps, inputs, outputs, in_pixels, out_pixels;
} sizes;

static sizes sizes_of(const et_conv_shape *shape)
{
    const sizes all = {
        (ptrdiff_t)shape->kernel_h * shape->kernel_w,
        shape->channels / shape->groups,
        shape->out_channels / shape->groups,
        (ptrdiff_t)shape->height * shape->width,
        (ptrdiff_t)shape->out_height * shape->out_width,
    };
    return all;
}

static ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b)
{
    return a < b ? a : b;
}

/* A convolution of one group and some of its channels. */
static et_conv_shape part_of(const et_conv_shape *shape, int32_t batch, ptrdiff_t channels, ptrdiff_t out_channels)
{
    et_conv_shape part = *shape;
    part.batch = batch;
    part.groups = 1;
    part.channels = (int32_t)channels;
    part.out_channels = (int32_t)out_channels;
    return part;
}

et_status et_half_conv(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x, const void *w,
                       const float *bias, uint16_t *y, void *scratch)
{
    const sizes n = sizes_of(shape);
    const ptrdiff_t rows = n.taps * n.inputs;
    float *image = scratch, *panel = image + n.in_pixels * n.inputs, *sums = panel + rows * form->block;
    for (ptrdiff_t group = 0; group < shape->groups; group++)
        for (ptrdiff_t done = 0; done < n.outputs; done += form->block) {
            const ptrdiff_t width = smaller(form->block, n.outputs - done), first = group * n.outputs + done;
            const et_conv_shape part = part_of(shape, 1, n.inputs, width);
            et_half_decode_weights(form, rows, width, w, first, shape->out_channels, panel);
            for (ptrdiff_t i = 0; i < shape->batch; i++) {
                if (done == 0 || shape->batch > 1)
                    et_half_decode(form, n.in_pixels, n.inputs,
                                   x + i * n.in_pixels * shape->channels + group * n.inputs, shape->channels, image);
                ET_TRY(et_conv_f32(&part, image, panel, bias != NULL ? bias + first : NULL, sums));
                et_half_encode(form, n.out_pixels, width, sums, y + i * n.out_pixels * shape->out_channels + first,
                               shape->out_channels);
            }
        }
    return ET_OK;
}

et_status et_half_conv_grad_input(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy,
                                  const void *w, float *dx, void *scratch)
{
    const sizes n = sizes_of(shape);
    float *image = scratch, *weights = image + n.out_pixels * n.outputs;
    float *sums = weights + form->block * n.taps * n.outputs;
    for (ptrdiff_t group = 0; group < shape->groups; group++)
        for (ptrdiff_t done = 0; done < n.inputs; done += form->block) {
            const ptrdiff_t width = smaller(form->block, n.inputs - done);
            const et_conv_shape part = part_of(shape, 1, width, n.outputs);
            float *next = weights; /* in panels of output channels, as et_conv_grad_input wants them */
            for (ptrdiff_t panel = 0; panel < n.outputs; panel += PANEL) {
                const ptrdiff_t columns = smaller(PANEL, n.outputs - panel);
                for (ptrdiff_t tap = 0; tap < n.taps; tap++) {
                    et_half_decode_weights(form, width, columns, w,
                                           (tap * n.inputs + done) * shape->out_channels + group * n.outputs + panel,
                                           shape->out_channels, next);
                    next += width * columns;
                }
            }
            for (ptrdiff_t i = 0; i < shape->batch; i++) {
                et_half_decode(form, n.out_pixels, n.outputs,
                               dy + i * n.out_pixels * shape->out_channels + group * n.outputs, shape->out_channels,
                               image);
                ET_TRY(et_conv_grad_input_f32(&part, image, weights, sums));
                float *target = dx + i * n.in_pixels * shape->channels + group * n.inputs + done;
                et_half_unscale(form, n.in_pixels, width, sums, target, shape->channels);
            }
        }
    return ET_OK;
}

static et_status weight_gradient(const et_conv_shape *shape, const et_half_form *form, et_half_sink *sink,
                                 const uint16_t *x, const uint16_t *dy, float *scratch)
{
    const sizes n = sizes_of(shape);
    const ptrdiff_t in_pixels = shape->batch * n.in_pixels, out_pixels = shape->batch * n.out_pixels;
    float *inputs = scratch, *gradients = inputs + in_pixels * form->block;
    float *sums = gradients + out_pixels * smaller(PANEL, n.outputs);
    for (ptrdiff_t group = 0; group < shape->groups; group++)
        for (ptrdiff_t done = 0; done < n.inputs; done += form->block) {
            const ptrdiff_t height = smaller(form->block, n.inputs - done);
            et_half_decode(form, in_pixels, height, x + group * n.inputs + done, shape->channels, inputs);
            for (ptrdiff_t panel = 0; panel < n.outputs; panel += PANEL) {
                const ptrdiff_t width = smaller(PANEL, n.outputs - panel), first = group * n.outputs + panel;
                const et_conv_shape part = part_of(shape, shape->batch, height, width);
                et_half_decode(form, out_pixels, width, dy + first, shape->out_channels, gradients);
                ET_TRY(et_conv_grad_weight_f32(&part, inputs, gradients, sums, 0));
                float *row = sums;
                for (ptrdiff_t tap = 0; tap < n.taps; tap++)
                    for (ptrdiff_t i = 0; i < height; i++, row += width)
                        et_half_take(form, sink, width, row, (tap * n.inputs + done + i) * shape->out_channels + first);
            }
        }
    return et_half_sink_status(sink);
}

et_status et_half_conv_grad_weight(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x,
                                   const uint16_t *dy, float *dw, void *scratch)
{
    et_half_sink sink = et_half_sink_gradient(dw);
    return weight_gradient(shape, form, &sink, x, dy, scratch);
}

et_status et_half_conv_update(const et_conv_shape *shape, const et_half_form *form, float learning_rate,
                              float weight_decay, const uint16_t *x, const uint16_t *dy, float *w, void *scratch)
{
    et_half_sink sink = et_half_sink_update(learning_rate, weight_decay, w);
    return weight_gradient(shape, form, &sink, x, dy, scratch);
}

et_status et_half_conv_update_stored(
    const et_conv_shape *shape, const et_half_form *form, const et_stored_sgd *options, float learning_rate,
    uint32_t seed, uint32_t step, const uint16_t *x, const uint16_t *dy, uint16_t *stored, void *scratch)
{
    et_half_sink sink = et_half_sink_stored(options, learning_rate, seed, step, stored);
    return weight_gradient(shape, form, &sink, x, dy, scratch);
}
