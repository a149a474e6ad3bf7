/* The gradient of a convolution's input with what decides whether products with zeros are left out. */
#include "et_conv_grad_input.c"

int32_t input_takes_sparse_form(const et_conv_shape *shape);

int32_t input_takes_sparse_form(const et_conv_shape *shape)
{
    return has_sparse_form(shape);
}
