#include "et_conv.h"

#include "et_share.h"
#include "et_tile.h"

/* One image of one group: x, y and the tile's weights and bias already point to the group. */
static void conv_image(const et_conv_shape *shape, et_tile *tile, const float *x, float *y)
{
    const ptrdiff_t channels = shape->channels, out_channels = shape->out_channels;
    const ptrdiff_t x_row = shape->width * channels, y_row = shape->out_width * out_channels;
    const int32_t group_channels = shape->channels / shape->groups;
    const bool one_run = shape->groups == 1 && shape->dilation_w == 1;
    for (const et_segment *row = shape->rows; row != shape->rows + shape->row_count; row++)
        for (const et_segment *column = shape->columns; column != shape->columns + shape->column_count; column++) {
            const et_region region = {
                .rows = row->count,
                .columns = column->count,
                .x = x + row->source * x_row + column->source * channels,
                .y = y + row->first * y_row + column->first * out_channels,
                .x_row = row->source_step * x_row,
                .x_column = column->source_step * channels,
                .y_row = y_row,
                .y_column = out_channels,
            };
            if (row->taps == 0 || column->taps == 0) {
                et_fill_region(tile, &region);
                continue;
            }
            tile->taps_h = row->taps;
            tile->taps_w = one_run ? 1 : column->taps;
            tile->run = one_run ? column->taps * group_channels : group_channels;
#if ET_FORM_GROUPED
            if (tile->groups > 1 && group_channels == 1 && tile->columns < 4) {
                tile->taps_w = 1;
                tile->run = column->taps;
                tile->run_step = column->source_tap_step * channels;
            }
#endif
            tile->x_tap_h = row->source_tap_step * x_row;
            tile->x_tap_w = column->source_tap_step * channels;
            tile->w_tap_h = shape->kernel_w * group_channels;
            tile->w_tap_w = group_channels;
            tile->w_first = (row->tap * shape->kernel_w + column->tap) * group_channels;
            et_tile_region(tile, &region, et_tile_sum);
        }
}

static et_status conv(const et_conv_shape *shape, et_end end, const float *x, const float *w, const float *bias,
                      float *y)
{
    (void)end;
    if (shape->rows == NULL || shape->columns == NULL)
        return ET_BAD_ARGUMENT;
    const int32_t group_channels = shape->channels / shape->groups, group_outputs = shape->out_channels / shape->groups;
    const ptrdiff_t x_image = (ptrdiff_t)shape->height * shape->width * shape->channels;
    const ptrdiff_t y_image = (ptrdiff_t)shape->out_height * shape->out_width * shape->out_channels;
    const ptrdiff_t rows = (ptrdiff_t)shape->kernel_h * shape->kernel_w * group_channels;
    const int32_t together = et_groups_together(shape, group_outputs);
    for (ptrdiff_t image = 0; image < shape->batch; image++)
        for (ptrdiff_t group = 0; group < shape->groups; group += together) {
            if (!et_share_holds(image, shape->batch))
                continue;
            et_tile tile = {
                .columns = group_outputs,
                .panel_rows = rows,
                .w = w + group * rows * group_outputs,
                .bias = bias != NULL ? bias + group * group_outputs : NULL,
#if ET_HAS_ENDS
                .end = end,
#endif
#if ET_FORM_GROUPED
                .groups = together,
                .x_group = group_channels,
                .w_group = rows * group_outputs,
                .run_step = 1,
#endif
            };
            conv_image(shape, &tile, x + image * x_image + group * group_channels,
                       y + image * y_image + group * group_outputs);
        }
    return ET_OK;
}

et_status et_conv_f32(const et_conv_shape *shape, const float *x, const float *w, const float *bias, float *y)
{
    return conv(shape, et_end_linear(), x, w, bias, y);
}

#if ET_FORM_RECTIFY
et_status et_conv_relu_f32(const et_conv_shape *shape, float ceiling, const float *x, const float *w, const float *bias,
                           float *y)
{
    return conv(shape, et_end_relu(ceiling), x, w, bias, y);
}
#endif

#if ET_FORM_ADDEND
et_status et_conv_add_f32(const et_conv_shape *shape, const float *x, const float *w, const float *bias,
                          const float *addend, float *y)
{
    return conv(shape, et_end_after_sum(et_end_linear(), addend, y), x, w, bias, y);
}
#endif

#if ET_FORM_ADDEND && ET_FORM_RECTIFY
et_status et_conv_add_relu_f32(const et_conv_shape *shape, float ceiling, const float *x, const float *w,
                               const float *bias, const float *addend, float *y)
{
    return conv(shape, et_end_after_sum(et_end_relu(ceiling), addend, y), x, w, bias, y);
}
#endif
