"""All surface patterns as one table of texels with mip levels, and its look-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from da3_ros.training.scenes.patterns import PATTERNS, Pattern


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
    patterns: tuple[str, ...]

    @property
    def levels(self) -> int:
        """Number of mip levels."""
        return len(self.level_starts)

    def texture(self, pattern: str) -> int:
        """Number of the first variant of ``pattern``."""
        return self.patterns.index(pattern) * self.variants

    def to(self, device: torch.device | str) -> Atlas:
        """The same on ``device``."""
        return replace(self, texels=self.texels.to(device), level_starts=self.level_starts.to(device))

    def sample(self, texture: torch.Tensor, uv: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Bilinear albedo (R, 3) at ``uv`` (2, R; the square is 0..1 and repeats) of ``texture`` (R,) int32.

        ``level`` (R,) is the mip level, log2 of the pixel's footprint in texels of level 0, rounded down here.
        """
        rows, weights = self.neighbours(texture, uv[0], uv[1], level)
        return F.embedding_bag(
            torch.stack(rows, -1), self.texels, per_sample_weights=torch.stack(weights, -1), mode="sum"
        )

    def neighbours(
        self, texture: torch.Tensor, u: torch.Tensor, v: torch.Tensor, level: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Rows of the four texels about a place, and their weights; arguments of one shape, as of ``sample``."""
        level = level.clamp(0, self.levels - 1).int()
        size = torch.full_like(level, self.size) >> level
        u, v = u * size - 0.5, v * size - 0.5
        left_edge, lower_edge = u.floor(), v.floor()
        right_share, upper_share = u - left_edge, v - lower_edge
        # Sizes are powers of two, so that the remainder is a bit mask.
        mask = size - 1
        column, line = left_edge.int(), lower_edge.int()
        start = self.level_starts[level] + texture * (size * size)
        left, right = column & mask, (column + 1) & mask
        lower = start + (line & mask) * size
        upper = start + ((line + 1) & mask) * size
        high, low = upper_share, 1.0 - upper_share
        return (
            (lower + left, lower + right, upper + left, upper + right),
            (low - right_share * low, right_share * low, high - right_share * high, right_share * high),
        )


def make_atlas(
    generator: torch.Generator, size: int = 256, variants: int = 2, patterns: Mapping[str, Pattern] = PATTERNS
) -> Atlas:
    """Draw every pattern ``variants`` times at ``size`` (a power of two) texels; lives on the generator's device."""
    images = torch.cat([pattern(variants, size, generator) for pattern in patterns.values()])
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
        patterns=tuple(patterns),
    )
