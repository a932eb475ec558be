"""All surface patterns as one table of texels with mip levels, and its look-up."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from da3_ros.training.scenes.patterns import PATTERNS


@dataclass(frozen=True)
class Atlas:
    """Every pattern in several variants; texture number = pattern number x ``variants`` + variant.

    ``texels``: (levels' texels of all textures, 3) float32 linear albedo; level l holds squares of size
    ``size >> l``.
    """

    texels: torch.Tensor
    size: int
    variants: int
    level_starts: torch.Tensor  # (levels,) int32: first row of each level

    @property
    def levels(self) -> int:
        """Number of mip levels."""
        return len(self.level_starts)

    def texture(self, pattern: str) -> int:
        """Number of the first variant of ``pattern``."""
        return list(PATTERNS).index(pattern) * self.variants

    def sample(self, texture: torch.Tensor, uv: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Bilinear albedo (R, 3) at ``uv`` (2, R; the square is 0..1 and repeats) of ``texture`` (R,) int32.

        ``level`` (R,) is the mip level, log2 of the pixel's footprint in texels of level 0, rounded down here.
        """
        level = level.clamp(0, self.levels - 1).int()
        size = torch.full_like(level, self.size) >> level
        position = uv * size - 0.5
        corner = position.floor()
        x1, y1 = position - corner
        # Sizes are powers of two, so that the remainder is a bit mask.
        mask = size - 1
        column, line = corner.int()
        start = self.level_starts[level] + texture * (size * size)
        left, right = column & mask, (column + 1) & mask
        lower = start + (line & mask) * size
        upper = start + ((line + 1) & mask) * size
        rows = torch.stack([lower + left, lower + right, upper + left, upper + right], -1)
        high, low = y1, 1.0 - y1
        weights = torch.stack([low - x1 * low, x1 * low, high - x1 * high, x1 * high], -1)
        return F.embedding_bag(rows, self.texels, per_sample_weights=weights, mode="sum")


def make_atlas(generator: torch.Generator, size: int = 256, variants: int = 2) -> Atlas:
    """Draw every pattern ``variants`` times at ``size`` (a power of two) texels; lives on the generator's device."""
    images = torch.cat([pattern(variants, size, generator) for pattern in PATTERNS.values()])
    image = images.permute(0, 3, 1, 2)
    rows, starts, count = [], [], 0
    while image.shape[-1] >= 2:
        starts.append(count)
        level = image.permute(0, 2, 3, 1).reshape(-1, 3)
        rows.append(level)
        count += len(level)
        image = F.avg_pool2d(image, 2)
    return Atlas(
        texels=torch.cat(rows).contiguous(),
        size=size,
        variants=variants,
        level_starts=torch.tensor(starts, dtype=torch.int32, device=generator.device),
    )
