/* See et_standardize.h. Rows go by once for each sum, and the sums of all channels lie in scratch. */
#include "et_standardize.h"

#include "et_math.h"
#include "et_straight_through.h"

static void fill(size_t count, float *values)
{
    for (size_t i = 0; i < count; ++i)
        values[i] = 0.0f;
}

/* Leaves the mean and the deviation of each channel. */
static void measure(size_t count, size_t channels, const float *w, float *ET_RESTRICT mean,
    float *ET_RESTRICT deviation)
{
    const float share = 1.0f / (float)count;
    fill(channels, mean);
    fill(channels, deviation);
    for (size_t row = 0; row < count; ++row)
        for (size_t c = 0; c < channels; ++c)
            mean[c] += w[row * channels + c];
    for (size_t c = 0; c < channels; ++c)
        mean[c] *= share;
    for (size_t row = 0; row < count; ++row)
        for (size_t c = 0; c < channels; ++c) {
            const float centred = w[row * channels + c] - mean[c];
            deviation[c] = et_madd(centred, centred, deviation[c]);
        }
    for (size_t c = 0; c < channels; ++c)
        deviation[c] = et_sqrt_f32(deviation[c] * share);
}

static inline float inverse_of(float deviation)
{
    return 1.0f / (deviation + 1e-5f);
}

/* Leaves the mean and the inverse of each channel. */
static void measure_inverse(size_t count, size_t channels, const float *w, float *mean, float *inverse)
{
    measure(count, channels, w, mean, inverse);
    for (size_t c = 0; c < channels; ++c)
        inverse[c] = inverse_of(inverse[c]);
}

et_status et_standardize_weights_f32(size_t count, size_t channels, const float *w, void *scratch, float *ws)
{
    if (count == 0 || channels == 0 || w == NULL || scratch == NULL || ws == NULL)
        return ET_BAD_ARGUMENT;
    float *mean = scratch;
    float *inverse = mean + channels;
    measure_inverse(count, channels, w, mean, inverse);
    for (size_t row = 0; row < count; ++row)
        for (size_t c = 0; c < channels; ++c)
            ws[row * channels + c] = (w[row * channels + c] - mean[c]) * inverse[c];
    return ET_OK;
}

et_status et_binarize_standardized_f32(size_t taps, size_t inputs, size_t outputs, const float *w,
    void *scratch, uint8_t *signs, float *magnitude)
{
    if (taps == 0 || inputs == 0 || outputs == 0 || w == NULL || scratch == NULL || signs == NULL || magnitude == NULL)
        return ET_BAD_ARGUMENT;
    float *mean = scratch;
    float *inverse = mean + outputs;
    const float share = 1.0f / (float)(taps * inputs);
    measure_inverse(taps * inputs, outputs, w, mean, inverse);
    for (size_t o = 0; o < outputs; ++o) {
        const float *row = w + o;
        float sum = 0.0f;
        for (size_t tap = 0; tap < taps; ++tap)
            for (size_t i = 0; i < inputs; i += 8) {
                const size_t left = inputs - i < 8 ? inputs - i : 8;
                unsigned byte = 0;
                for (size_t j = 0; j < left; ++j, row += outputs) {
                    const float ws = (*row - mean[o]) * inverse[o];
                    byte |= (unsigned)(ws >= 0.0f) << j;
                    sum += et_abs_f32(ws);
                }
                *signs++ = (uint8_t)byte;
            }
        magnitude[o] = sum * share;
    }
    return ET_OK;
}

/* The gradient that goes on to ws. */
static inline float passed(bool clip, float dy, float ws)
{
    return !clip || et_within_f32(ws, 1.0f) ? dy : 0.0f;
}

et_status et_standardize_weights_grad_f32(size_t count, size_t channels, bool clip, const float *dy, const float *w,
    void *scratch, float *dw)
{
    if (count == 0 || channels == 0 || dy == NULL || w == NULL || scratch == NULL || dw == NULL)
        return ET_BAD_ARGUMENT;
    const float share = 1.0f / (float)count;
    float *mean = scratch;
    float *deviation = mean + channels, *centre = deviation + channels, *slope = centre + channels;
    measure(count, channels, w, mean, deviation);
    fill(2 * channels, centre);
    for (size_t row = 0; row < count; ++row)
        for (size_t c = 0; c < channels; ++c) {
            const float ws = (w[row * channels + c] - mean[c]) * inverse_of(deviation[c]);
            const float g = passed(clip, dy[row * channels + c], ws);
            centre[c] += g;
            slope[c] = et_madd(g, ws, slope[c]);
        }
    for (size_t c = 0; c < channels; ++c) {
        centre[c] *= share;
        slope[c] *= share;
        slope[c] = deviation[c] > 0.0f ? slope[c] / deviation[c] : 0.0f;
        deviation[c] = inverse_of(deviation[c]);
    }
    for (size_t row = 0; row < count; ++row)
        for (size_t c = 0; c < channels; ++c) {
            const float ws = (w[row * channels + c] - mean[c]) * deviation[c];
            const float rest = passed(clip, dy[row * channels + c], ws) - centre[c];
            const float direct = deviation[c] * rest;
            dw[row * channels + c] = et_madd(-slope[c], ws, direct);
        }
    return ET_OK;
}

/* Leaves max(norm, least) of each channel. */
static void norms(size_t count, size_t channels, const float *x, float least, float *norm)
{
    fill(channels, norm);
    for (size_t row = 0; row < count; ++row)
        for (size_t c = 0; c < channels; ++c)
            norm[c] = et_madd(x[row * channels + c], x[row * channels + c], norm[c]);
    for (size_t c = 0; c < channels; ++c) {
        const float root = et_sqrt_f32(norm[c]);
        norm[c] = root > least ? root : least;
    }
}

et_status et_clip_by_unit_f32(size_t count, size_t channels, float fraction, const float *w, const float *g,
    void *scratch, float *clipped)
{
    if (count == 0 || channels == 0 || w == NULL || g == NULL || scratch == NULL || clipped == NULL)
        return ET_BAD_ARGUMENT;
    float *factor = scratch;
    float *norm = factor + channels;
    norms(count, channels, w, 1e-3f, factor);
    norms(count, channels, g, 1e-12f, norm);
    for (size_t c = 0; c < channels; ++c) {
        const float limit = fraction * factor[c];
        factor[c] = limit / norm[c];
    }
    for (size_t row = 0; row < count; ++row)
        for (size_t c = 0; c < channels; ++c) {
            const float value = g[row * channels + c];
            clipped[row * channels + c] = factor[c] < 1.0f ? value * factor[c] : value;
        }
    return ET_OK;
}
