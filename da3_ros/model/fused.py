"""A linear layer with GELU inside the matrix product: CUDA, half precision, inference."""

import torch
from torch import Tensor, nn

_HALF = (torch.float16, torch.bfloat16)


def applies(x: Tensor, layer: nn.Module) -> bool:
    """Whether ``layer``, of the input x, has a fused form; all else takes the plain one."""
    return type(layer) is nn.Linear and x.is_cuda and layer.weight.dtype in _HALF and not torch.is_grad_enabled()


@torch.library.custom_op("da3_ros::linear_gelu", mutates_args=())
def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU of a linear layer, (..., out) of x (..., in).

    In its tanh form, which is all that the product offers: it moves depth by a twelfth of what float16 does
    (docs/performance.md).
    """
    flat = torch._addmm_activation(bias, x.flatten(0, -2), weight.t(), use_gelu=True)
    return flat.unflatten(0, x.shape[:-1])


@linear_gelu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))
