"""How long a step must take at least: its arithmetic, at the rate of the chip's matrix product."""

from __future__ import annotations

import torch

from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.model.variants import PATCH, VARIANTS

# Dense head of one view at 27 x 36 patches, without the ray branch, in GFLOP (2 x multiply-accumulate): every layer
# works on maps whose size is a multiple of the patch grid, so it grows with the number of patches.
_HEAD_GFLOP = {"da3-nano": 4.79, "da3-small": 16.07, "da3-base": 57.17, "da3-large": 211.8, "da3-giant": 217.4}
_HEAD_PATCHES = 27 * 36
# Side of the square matrices whose product is timed.
_SIDE = {"cuda": 8192, "cpu": 1024}


def step_gflop(variant: str, views: int, new: int, height: int, width: int) -> float:
    """GFLOP of a step that shares everything that can be shared exactly: ``new`` of ``views`` are new and decoded.

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
    flop = n * 2 * 3 * PATCH**2 * C * patches
    flop += n * network.mix_start * (block + local)
    if network.mix_start % 2 == 0:  # the first mixing layer still looks within each view
        flop += n * (block + local)
    # The first layer across views: q, k, v of new views, the rest of all views.
    flop += (6 * n + 18 * N) * C**2 * T + across
    first = network.mix_start + (network.mix_start % 2 == 0)
    for layer in range(first + 1, network.depth - 1):
        flop += N * block + (across if layer % 2 else N * local)
    # The last layer: keys and values of all views, everything else of new views only.
    flop += 4 * N * C**2 * T + 20 * n * C**2 * T + 4 * C * (n * T) * (N * T)
    return flop / 1e9 + n * _HEAD_GFLOP[variant] * patches / _HEAD_PATCHES


def matmul_tflops(device: torch.device, dtype: torch.dtype, repeats: Repeats) -> float:
    """Rate of one large matrix product on ``device``, in TFLOP/s."""
    side = _SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / median_ms(lambda: a @ b, device, repeats) / 1e9
