/* The gradients of dense layers with what decides how products with zeros are left out. */
#include "et_dense_grad.c"

int32_t dense_is_sparse(const et_dense_shape *shape, const float *dy);
int32_t zeros_add_nothing(int32_t a_count, const float *a, int32_t b_count, const float *b);
int32_t sums_stay_finite(int32_t a_count, const float *a, int32_t b_count, const float *b);

static et_magnitudes magnitudes(int32_t count, const float *x)
{
    et_magnitudes all = {0u, UINT32_MAX};
    (void)et_magnitudes_of(&all, count, x);
    return all;
}

int32_t dense_is_sparse(const et_dense_shape *shape, const float *dy)
{
    et_magnitudes of_dy;
    return is_sparse(shape, dy, &of_dy);
}

int32_t zeros_add_nothing(int32_t a_count, const float *a, int32_t b_count, const float *b)
{
    const et_magnitudes of_a = magnitudes(a_count, a), of_b = magnitudes(b_count, b);
    return et_zeros_add_nothing(&of_a, &of_b);
}

int32_t sums_stay_finite(int32_t a_count, const float *a, int32_t b_count, const float *b)
{
    const et_magnitudes of_a = magnitudes(a_count, a), of_b = magnitudes(b_count, b);
    return et_sums_stay_finite(&of_a, &of_b);
}
