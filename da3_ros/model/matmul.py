"""Other number formats for the matrix products of the transformer blocks, which are most of the network's work.

What a checkpoint holds is rounded once, after loading. bfloat16 is what some CPUs multiply faster than float32. 8-bit
integers and 8-bit floating point (E4M3) are coarser: weights are rounded with a scale for every output, inputs at
every call with a scale for every token, so that one large activation costs precision in its own token only; sums are
kept in higher precision. Everything else (heads, norms, residual stream, camera decoder) stays as it is.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_ros.errors import UnavailableError
from da3_ros.model.layout import Network

_FP8 = torch.float8_e4m3fn
_TINY = 1e-12                   # keeps the scale of a row of zeros finite
_FP8_CAPABILITY = (8, 9)        # the first CUDA architecture with products of E4M3
_FEWEST_ROWS = 17               # that CUDA's product of integers takes


class EightBitLinear(nn.Module, ABC):
    """Stands in for ``linear``, with weights and inputs in eight bits; takes any floating dtype."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.output_dtype = linear.weight.dtype
        quantised, scale = self.quantise(linear.weight.detach())
        self.quantised = nn.Parameter(quantised, requires_grad=False)       # (out, in)
        self.scale = nn.Parameter(scale, requires_grad=False)               # (out, 1) fp32
        self.bias = linear.bias

    @property
    def weight(self) -> Tensor:
        """The weight as it counts, (out, in) fp32. Layers read its dtype, to know what inputs to hand over."""
        return self.quantised.float() * self.scale

    def forward(self, x: Tensor) -> Tensor:
        """(..., out) of x (..., in)."""
        return self.product(*self.quantise(x.flatten(0, -2))).unflatten(0, x.shape[:-1])

    @staticmethod
    @abstractmethod
    def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
        """x (rows, columns) in eight bits, and the scale (rows, 1) fp32 that multiplies it back."""

    @abstractmethod
    def product(self, quantised: Tensor, scale: Tensor) -> Tensor:
        """(rows, out) of inputs as ``quantise`` makes them."""


class Int8Linear(EightBitLinear):
    """8-bit integers; the output has the dtype of the weights that were replaced."""

    @staticmethod
    def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
        scale = _row_scale(x, 127)
        return (x / scale).round_().to(torch.int8), scale

    def product(self, quantised: Tensor, scale: Tensor) -> Tensor:
        rows = quantised.shape[0]
        if quantised.is_cuda and rows < _FEWEST_ROWS:
            quantised = F.pad(quantised, (0, 0, 0, _FEWEST_ROWS - rows))
        product = torch._int_mm(quantised, self.quantised.t())[:rows].float()
        product.mul_(scale).mul_(self.scale.t())
        if self.bias is not None:
            product.add_(self.bias)
        return product.to(self.output_dtype)


class Fp8Linear(EightBitLinear):
    """E4M3; the output is bfloat16, the one dtype that the product with scales by row has.

    On a CPU an ordinary product follows the same rounding: the error without the speed.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__(linear)
        if linear.bias is not None:
            self.bias = nn.Parameter(linear.bias.detach().bfloat16(), requires_grad=False)

    @staticmethod
    def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
        scale = _row_scale(x, torch.finfo(_FP8).max)
        return (x / scale).to(_FP8), scale

    def product(self, quantised: Tensor, scale: Tensor) -> Tensor:
        if quantised.device.type == "cpu":
            product = F.linear(quantised.float() * scale, self.weight).bfloat16()
            return product if self.bias is None else product + self.bias
        return torch._scaled_mm(
            quantised, self.quantised.t(), scale_a=scale, scale_b=self.scale.t(), bias=self.bias,
            out_dtype=torch.bfloat16, use_fast_accum=True,
        )


def _row_scale(x: Tensor, largest: float) -> Tensor:
    return x.abs().amax(dim=-1, keepdim=True).float().clamp(min=_TINY) / largest


def set_matmul_format(model: Network, name: str) -> None:
    """Puts the linear layers of all transformer blocks of the backbones into the format ``name``.

    Raises UnavailableError for fp8 on a CUDA device that does not multiply in it.
    """
    device = model.device
    if name == "fp8" and device.type == "cuda" and torch.cuda.get_device_capability(device) < _FP8_CAPABILITY:
        found, wanted = (".".join(map(str, c)) for c in (torch.cuda.get_device_capability(device), _FP8_CAPABILITY))
        raise UnavailableError(
            f"model.matmul is fp8, which {torch.cuda.get_device_name(device)} does not multiply in (compute capability "
            f"{found}, at least {wanted} is needed): set it to auto or int8"
        )
    for block in [block for part in model.modules() for block in getattr(part, "blocks", ())]:
        for parent in list(block.modules()):
            for child_name, child in list(parent.named_children()):
                if type(child) is nn.Linear:
                    setattr(parent, child_name, _converted(child, name))


def _converted(linear: nn.Linear, name: str) -> nn.Module:
    if name == "bfloat16":
        return linear.bfloat16()
    return {"int8": Int8Linear, "fp8": Fp8Linear}[name](linear)
