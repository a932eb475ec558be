"""The last convolutions of a dense head, at image resolution or at that of the map before it is enlarged."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_ros.model.variants import PATCH

# From one pixel of the enlarged map to the next, in pixels of the map before. Corners lie on corners, which makes it
# (8h - 1) / (14h - 1): a difference that no error has been seen of.
_STEP = 8 / PATCH


class OutputConv(nn.Conv2d):
    """The last 1x1 convolution, in fp32: its output goes through an exponential, which turns the rounding of a
    logit into a relative error of depth."""

    keep_fp32 = True

    def __init__(self, channels: int, outputs: int):
        super().__init__(channels, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


class OutputStack(nn.Sequential):
    """3x3 convolution to 32 channels, ReLU, 1x1 convolution."""

    coarse_weight: Tensor | None

    def __init__(self, channels: int, outputs: int):
        super().__init__(nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), OutputConv(32, outputs))
        self.register_buffer("coarse_weight", None, persistent=False)

    def set_coarse(self, coarse: bool) -> None:
        """Makes what ``coarse`` needs of the weights as they are now, or drops it."""
        self.coarse_weight = _on_coarse_map(self._first().weight.detach()) if coarse else None

    def coarse(self, x: Tensor) -> Tensor:
        """What the stack gives for the enlarged x, at the pixels of x (V, C, 8h, 8w) alone, after ``set_coarse``."""
        assert self.coarse_weight is not None
        x = F.conv2d(_with_border(x), self.coarse_weight, self._first().bias)
        return self[2](self[1](x))

    def _first(self) -> nn.Conv2d:
        first = self[0]
        assert isinstance(first, nn.Conv2d)
        return first


def _on_coarse_map(weight: Tensor) -> Tensor:
    """3x3 kernels (O, C, 3, 3) for the map before it is enlarged that do what ``weight`` does on the enlarged one.

    A neighbour in the enlarged map lies ``_STEP`` towards the neighbour in the map before, and is that share of it and
    the rest of the centre. Left as they are, the kernels would see a surrounding 1.75 times as wide.
    """
    share = torch.tensor([[_STEP, 0, 0], [1 - _STEP, 1, 1 - _STEP], [0, 0, _STEP]], dtype=torch.float64)
    share = share.to(weight.device)
    coarse = (share @ weight.double() @ share.T).to(weight.dtype)
    return coarse.contiguous(memory_format=torch.channels_last) if weight.is_cuda else coarse


def _with_border(x: Tensor) -> Tensor:
    """x (V, C, h, w) with one more pixel on each side, such that interpolation finds zero where the enlarged map, which
    its convolution pads with zeros, has its own border: ``_STEP`` beyond the last pixel."""
    beyond = 1 - 1 / _STEP
    x = torch.cat([x[:, :, :1] * beyond, x, x[:, :, -1:] * beyond], 2)
    return torch.cat([x[..., :1] * beyond, x, x[..., -1:] * beyond], 3)
