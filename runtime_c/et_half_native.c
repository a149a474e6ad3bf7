/* See et_half_native.h. */
#include "et_half_native.h"

#include "et_half_number.h"
#include "et_repeat.h"

#include "et_half_tile.inc"
#include "et_half_depth.inc"

/* One direction of a layer: where the sources and the results of an image lie. */
typedef struct {
    const et_segment *rows;
    const et_segment *columns;
    int32_t row_count;
    int32_t column_count;
    ptrdiff_t x_row;
    ptrdiff_t x_pixel;
    ptrdiff_t y_row;
    ptrdiff_t y_pixel;
    ptrdiff_t kernel_w;
    int32_t run; /* values that a tap meets */
} side;

/* Results of pixels that meet no tap. */
static void no_taps(const product *of, ptrdiff_t at)
{
    for (int32_t j = 0; j < of->columns; j++) {
        et_number sum = of->bias != NULL ? et_number_of(of->bias[j]) : 0;
        if (of->rectify)
            sum = et_number_above_0(sum);
        if (of->halves != NULL)
            of->halves[at + j] = et_element_of(sum);
        else
            of->reals[at + j] = (float)sum * of->unscale;
    }
}

/* The pixels of a row and a column of segments, a tile at a time; tiles may wrap from one row to the next. */
static void region_sums(const side *over, const product *of, const et_segment *row, const et_segment *column,
                        const et_element *x, ptrdiff_t at)
{
    const et_element *sources[TILE];
    ptrdiff_t results[TILE];
    const ptrdiff_t x_pixel = column->source_step * over->x_pixel, y_pixel = column->step * over->y_pixel;
    const ptrdiff_t x_row = row->source_step * over->x_row - x_pixel * column->count;
    const ptrdiff_t y_row = row->step * over->y_row - y_pixel * column->count;
    int32_t in_row = column->count;
    for (int32_t left = row->count * column->count; left > 0;) {
        const int32_t pixels = tile_pixels(left);
        for (int32_t m = 0; m < pixels; m++) {
            sources[m] = x;
            results[m] = at;
            x += x_pixel;
            at += y_pixel;
            if (--in_row == 0) {
                in_row = column->count;
                x += x_row;
                at += y_row;
            }
        }
        if (of->taps_h != 0 && of->taps_w != 0)
            (of->depthwise ? depth_sums : tile_sums)(of, pixels, sources, results);
        else
            for (int32_t m = 0; m < pixels; m++)
                no_taps(of, results[m]);
        left -= pixels;
    }
}

/* All pixels of an image; w, pitch, columns and where results go are set. */
static void image_sums(const side *over, product *of, const et_element *x, ptrdiff_t at)
{
    const et_element *w = of->w;
    for (const et_segment *row = over->rows; row != over->rows + over->row_count; row++)
        for (const et_segment *column = over->columns; column != over->columns + over->column_count; column++) {
            of->taps_h = row->taps;
            of->taps_w = column->taps;
            of->run = over->run;
            of->x_tap_h = row->source_tap_step * over->x_row;
            of->x_tap_w = column->source_tap_step * over->x_pixel;
            of->w_tap_h = row->tap_step * over->kernel_w * over->run;
            of->w_tap_w = (ptrdiff_t)column->tap_step * over->run;
            if (of->taps_w != 0 && of->x_tap_w == of->run && of->w_tap_w == of->run) { /* then it is one run */
                of->run *= of->taps_w;
                of->taps_w = 1;
            }
            of->w = w + (row->tap * over->kernel_w + column->tap) * over->run * of->pitch;
            region_sums(over, of, row, column, x + row->source * over->x_row + column->source * over->x_pixel,
                        at + row->first * over->y_row + column->first * over->y_pixel);
        }
    of->w = w;
}

/* Depthwise, with weights that are read where they are. */
static bool is_depthwise(const et_conv_shape *shape, const et_half_form *form)
{
    return form->stored && shape->groups > 1 && shape->channels == shape->groups
           && shape->out_channels == shape->groups;
}

/* rows x columns weights, `row_step` and `column_step` apart from element `first` on, side by side. */
static void pack(const et_half_form *form, ptrdiff_t rows, ptrdiff_t row_step, ptrdiff_t columns,
                 ptrdiff_t column_step, const void *w, ptrdiff_t first, et_element *target)
{
    for (; rows != 0; rows--, first += row_step) {
        const et_element *end = target + columns;
        if (form->stored)
            for (const et_element *source = (const et_element *)w + first; target != end; source += column_step)
                *target++ = *source;
        else
            for (const float *source = (const float *)w + first; target != end; source += column_step)
                *target++ = et_element_of(et_number_of(*source));
    }
}

/* Four columns of stored weights whose rows follow each other: the gradient's. */
static void pack_4(ptrdiff_t rows, ptrdiff_t pitch, const et_element *w0, et_element *target)
{
    const et_element *w1 = w0 + pitch, *w2 = w1 + pitch, *w3 = w2 + pitch;
#define PACK_ROW(K)                  \
    target[4 * K] = w0[K];           \
    target[4 * K + 1] = w1[K];       \
    target[4 * K + 2] = w2[K];       \
    target[4 * K + 3] = w3[K];
#define PACK_ROWS(COUNT)  \
    w0 += COUNT;          \
    w1 += COUNT;          \
    w2 += COUNT;          \
    w3 += COUNT;          \
    target += 4 * COUNT;
    for (; rows >= 4; rows -= 4) {
        PACK_ROW(0)
        PACK_ROW(1)
        PACK_ROW(2)
        PACK_ROW(3)
        PACK_ROWS(4)
    }
    for (; rows != 0; rows--) {
        PACK_ROW(0)
        PACK_ROWS(1)
    }
}

#include "et_half_vector.inc"

static et_status forward(const et_conv_shape *shape, const et_half_form *form, bool rectify, const uint16_t *x,
                         const void *w, const float *bias, uint16_t *y, void *scratch)
{
    if (shape->rows == NULL || shape->columns == NULL)
        return ET_BAD_ARGUMENT;
    const ptrdiff_t inputs = shape->channels / shape->groups, outputs = shape->out_channels / shape->groups;
    if (!form->stored && is_vector(shape)) {
        ptrdiff_t column = 0;
        for (; outputs - column >= 16; column += 16)
            vector_16(inputs, outputs, (const et_element *)x, w, bias, column, (et_element *)y);
        for (; column < outputs; column++)
            vector_1(inputs, outputs, (const et_element *)x, w, bias, column, (et_element *)y);
        if (rectify)
            for (ptrdiff_t i = 0; i < outputs; i++)
                ((et_element *)y)[i] = et_element_of(et_number_above_0(ET_ELEMENT_VALUE(((et_element *)y)[i])));
        return ET_OK;
    }
    const side over = {
        shape->rows, shape->columns, shape->row_count, shape->column_count,
        (ptrdiff_t)shape->width * shape->channels, shape->channels,
        (ptrdiff_t)shape->out_width * shape->out_channels, shape->out_channels, shape->kernel_w, (int32_t)inputs,
    };
    if (is_depthwise(shape, form)) {
        if (slide_layer(shape, false, rectify, (const et_element *)x, w, bias, (et_element *)y))
            return ET_OK;
        product of = {.columns = shape->channels, .pitch = shape->channels, .slice = 4, .depthwise = true};
        of.w = (const et_element *)w;
        of.bias = bias;
        of.halves = (et_element *)y;
        of.rectify = rectify;
        for (ptrdiff_t n = 0; n < shape->batch; n++)
            image_sums(&over, &of, (const et_element *)x + n * shape->height * over.x_row,
                       n * shape->out_height * over.y_row);
        return ET_OK;
    }
    const ptrdiff_t rows = (ptrdiff_t)shape->kernel_h * shape->kernel_w * inputs;
    const ptrdiff_t block = form->stored ? outputs : form->block;
    for (ptrdiff_t group = 0; group < shape->groups; group++)
        for (ptrdiff_t done = 0; done < outputs; done += block) {
            const ptrdiff_t width = outputs - done < block ? outputs - done : block, first = group * outputs + done;
            product of = {.columns = (int32_t)width, .slice = 4, .halves = (et_element *)y};
            of.rectify = rectify;
            of.bias = bias != NULL ? bias + first : NULL;
            of.w = form->stored ? (const et_element *)w + first : (const et_element *)scratch;
            of.pitch = form->stored ? shape->out_channels : width;
            if (!form->stored)
                pack(form, rows, shape->out_channels, width, 1, w, first, scratch);
            for (ptrdiff_t n = 0; n < shape->batch; n++)
                image_sums(&over, &of, (const et_element *)x + n * shape->height * over.x_row + group * inputs,
                           n * shape->out_height * over.y_row + first);
        }
    return ET_OK;
}

et_status et_half_native(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x, const void *w,
                         const float *bias, uint16_t *y, void *scratch)
{
    return forward(shape, form, false, x, w, bias, y, scratch);
}

#if ET_FORM_RECTIFY
et_status et_half_native_relu(const et_conv_shape *shape, const et_half_form *form, const uint16_t *x, const void *w,
                              const float *bias, uint16_t *y, void *scratch)
{
    return forward(shape, form, true, x, w, bias, y, scratch);
}
#endif

/* One of reals and halves is NULL. */
static et_status grad_input(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy, const void *w,
                            float *reals, et_element *halves, void *scratch)
{
    if (shape->grad_rows == NULL || shape->grad_columns == NULL)
        return ET_BAD_ARGUMENT;
    if (is_vector(shape)) {
        vector_grad_input(shape, form, (const et_element *)dy, w, reals, halves);
        return ET_OK;
    }
    const ptrdiff_t inputs = shape->channels / shape->groups, outputs = shape->out_channels / shape->groups;
    const ptrdiff_t taps = (ptrdiff_t)shape->kernel_h * shape->kernel_w;
    const side over = {
        shape->grad_rows, shape->grad_columns, shape->grad_row_count, shape->grad_column_count,
        (ptrdiff_t)shape->out_width * shape->out_channels, shape->out_channels,
        (ptrdiff_t)shape->width * shape->channels, shape->channels, shape->kernel_w, (int32_t)outputs,
    };
    if (is_depthwise(shape, form)) {
        if (halves != NULL && slide_layer(shape, true, false, (const et_element *)dy, w, NULL, halves))
            return ET_OK;
        product of = {.columns = shape->channels, .pitch = shape->channels, .slice = 4, .depthwise = true};
        of.w = (const et_element *)w;
        of.reals = reals;
        of.halves = halves;
        of.unscale = form->unscale;
        for (ptrdiff_t n = 0; n < shape->batch; n++)
            image_sums(&over, &of, (const et_element *)dy + n * shape->out_height * over.x_row,
                       n * shape->height * over.y_row);
        return ET_OK;
    }
    for (ptrdiff_t group = 0; group < shape->groups; group++)
        for (ptrdiff_t done = 0; done < inputs; done += form->block) {
            const ptrdiff_t width = inputs - done < form->block ? inputs - done : form->block;
            product of = {.columns = (int32_t)width, .w = scratch, .reals = reals, .halves = halves};
            of.unscale = form->unscale;
            of.pitch = width % 4 == 0 ? 4 : width;
            of.slice = width % 4 == 0 ? taps * outputs * 4 : 4;
            et_element *packed = scratch;
            for (ptrdiff_t column = done; column < done + width; column += of.pitch)
                for (ptrdiff_t tap = 0; tap < taps; tap++, packed += outputs * of.pitch) {
                    const ptrdiff_t first = (tap * inputs + column) * shape->out_channels + group * outputs;
                    if (form->stored && of.pitch == 4)
                        pack_4(outputs, shape->out_channels, (const et_element *)w + first, packed);
                    else
                        pack(form, outputs, 1, of.pitch, shape->out_channels, w, first, packed);
                }
            for (ptrdiff_t n = 0; n < shape->batch; n++)
                image_sums(&over, &of, (const et_element *)dy + n * shape->out_height * over.x_row + group * outputs,
                           n * shape->height * over.y_row + group * inputs + done);
        }
    return ET_OK;
}

et_status et_half_native_grad_input(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy,
                                    const void *w, float *dx, void *scratch)
{
    return grad_input(shape, form, dy, w, dx, NULL, scratch);
}

et_status et_half_native_grad_halves(const et_conv_shape *shape, const et_half_form *form, const uint16_t *dy,
                                     const void *w, uint16_t *dx, void *scratch)
{
    return grad_input(shape, form, dy, w, NULL, (et_element *)dx, scratch);
}
