"""How long a step must take at least: its arithmetic, at the rate of the chip's matrix product."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.model.variants import PATCH, VARIANTS

# Dense head of one view at 27 x 36 patches, without the ray branch, in GFLOP (2 x multiply-accumulate): every layer
# works on maps whose size is a multiple of the patch grid, so it grows with the number of patches.
_HEAD_GFLOP = {"da3-nano": 4.79, "da3-small": 16.07, "da3-base": 57.17, "da3-large": 211.8, "da3-giant": 217.4}
_HEAD_PATCHES = 27 * 36
# Of each channel of a token in one layer, 16 bit and the residual stream in 32: two norms, queries and keys normalised
# and rotated, two residuals.
_LAYER_BYTES = 52
# Side of the square matrices whose product is timed.
_SIDE = {"cuda": 8192, "cpu": 1024}
# Bytes that are copied to time the memory.
_COPIED = {"cuda": 2**30, "cpu": 2**26}


@dataclass(frozen=True)
class StepArithmetic:
    """What a step computes at least, in GFLOP, and what its layers move through memory between matrix products."""

    attention: float
    products: float  # of the layers, with the embedding of patches
    head: float  # convolutions of depth and confidence
    layers_gbyte: float  # norms, rotation and residuals: read and written, 52 bytes per channel and token of a layer

    @property
    def gflop(self) -> float:
        """All arithmetic."""
        return self.attention + self.products + self.head


def step_arithmetic(variant: str, views: int, new: int, height: int, width: int) -> StepArithmetic:
    """A step that shares everything that can be shared exactly: ``new`` of ``views`` are new and decoded.

    Matrix products, attention and convolutions of the backbone and of the depth and confidence head; the camera
    decoder is negligible. ``height`` and ``width`` are those of the network's images, in pixels.
    """
    network = VARIANTS[variant]
    assert network.mix_start is not None
    patches = (height // PATCH) * (width // PATCH)
    C, T, N, n = network.dim, patches + 1, views, new
    block = 24 * C**2 * T  # of one view: q, k, v, projection and the feed-forward layers
    local = 4 * C * T**2  # attention within one view
    across = 4 * C * (N * T) ** 2  # attention over all views
    # Layers of new views alone: all before the mixing ones, whose first still looks within each view where it is even.
    first = network.mix_start + (network.mix_start % 2 == 0)
    products, attention = n * 2 * 3 * PATCH**2 * C * patches + n * first * block, n * first * local
    # The first layer across views: q, k, v of new views, the rest of all views.
    products += (6 * n + 18 * N) * C**2 * T
    attention += across
    for layer in range(first + 1, network.depth - 1):
        products += N * block
        attention += across if layer % 2 else N * local
    # The last layer: keys and values of all views, everything else of new views only.
    products += 4 * N * C**2 * T + 20 * n * C**2 * T
    attention += 4 * C * (n * T) * (N * T)
    tokens = T * (n * first + N * (network.depth - first))
    return StepArithmetic(
        attention=attention / 1e9,
        products=products / 1e9,
        head=n * _HEAD_GFLOP[variant] * patches / _HEAD_PATCHES,
        layers_gbyte=_LAYER_BYTES * C * tokens / 1e9,
    )


def step_gflop(variant: str, views: int, new: int, height: int, width: int) -> float:
    """All arithmetic of a step, in GFLOP: see ``step_arithmetic``."""
    return step_arithmetic(variant, views, new, height, width).gflop


def matmul_tflops(device: torch.device, dtype: torch.dtype, repeats: Repeats) -> float:
    """Rate of one large matrix product on ``device``, in TFLOP/s."""
    side = _SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / median_ms(lambda: a @ b, device, repeats) / 1e9


def copy_gbyte_per_s(device: torch.device, repeats: Repeats) -> float:
    """Rate of one large copy within the memory of ``device``, bytes read and written counted, in GB/s."""
    values = torch.empty(_COPIED[device.type] // 4, device=device)
    other = torch.empty_like(values)
    return 2 * values.nbytes / median_ms(lambda: other.copy_(values), device, repeats) / 1e6
