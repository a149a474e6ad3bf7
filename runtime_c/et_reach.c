#include "et_reach.h"

static et_span span_of(int32_t size, int32_t out_size, int32_t stride, int32_t offset)
{
    const int32_t first = offset < 0 ? (stride - 1 - offset) / stride : 0;
    const int32_t last = offset < size ? (size - 1 - offset) / stride : -1;
    const int32_t end = last < out_size ? last + 1 : out_size;
    const et_span outputs = {first, end > first ? end - first : 0};
    return outputs;
}

et_span et_span_of(int32_t size, int32_t out_size, int32_t stride, int32_t offset)
{
    return span_of(size, out_size, stride, offset);
}

et_reach et_reach_of(const et_conv_shape *shape, int32_t kh, int32_t kw)
{
    const ptrdiff_t channels = shape->channels, out_channels = shape->out_channels;
    const ptrdiff_t x_row = shape->width * channels, dy_row = shape->out_width * out_channels;
    const int32_t offset_h = kh * shape->dilation_h - shape->pad_top;
    const int32_t offset_w = kw * shape->dilation_w - shape->pad_left;
    const et_span rows = span_of(shape->height, shape->out_height, shape->stride_h, offset_h);
    const et_span columns = span_of(shape->width, shape->out_width, shape->stride_w, offset_w);
    et_reach reach = {0};
    if (rows.count == 0 || columns.count == 0)
        return reach;
    reach.images = shape->batch;
    reach.rows = rows.count;
    reach.columns = columns.count;
    reach.x_first = (rows.first * shape->stride_h + offset_h) * x_row
                    + (columns.first * shape->stride_w + offset_w) * channels;
    reach.dy_first = rows.first * dy_row + columns.first * out_channels;
    reach.x_column = shape->stride_w * channels;
    reach.dy_column = out_channels;
    reach.x_row = shape->stride_h * x_row - columns.count * reach.x_column;
    reach.dy_row = dy_row - columns.count * reach.dy_column;
    reach.x_image = (shape->height - (ptrdiff_t)rows.count * shape->stride_h) * x_row;
    reach.dy_image = (shape->out_height - (ptrdiff_t)rows.count) * dy_row;
    return reach;
}
