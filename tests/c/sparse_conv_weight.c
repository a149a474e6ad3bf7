/* The gradient of convolution weights with what decides whether products with zeros are left out. */
#include "et_conv_grad_weight.c"

int32_t spares_zeros(int32_t count, const float *dy, int32_t x_count, const float *x);
int32_t weight_takes_sparse_form(const et_conv_shape *shape);

int32_t spares_zeros(int32_t count, const float *dy, int32_t x_count, const float *x)
{
    return et_zeros_are_spared(count, dy, x_count, x);
}

int32_t weight_takes_sparse_form(const et_conv_shape *shape)
{
    return has_sparse_form(shape);
}
