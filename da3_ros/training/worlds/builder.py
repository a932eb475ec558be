"""Collects the solids of B scenes at once: each call adds n solids to every scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from da3_ros.training.scenes.atlas import Atlas
from da3_ros.training.worlds.draws import Draws, constant
from da3_ros.training.worlds.image_textures import PREFIX
from da3_ros.training.worlds.solids import SHAPES, Solids, Surface

_PICTURED = 0.25  # of the surfaces, where there are pictures

Number = float | Tensor  # one value for all, or (B, n) or (B, 1)


@dataclass(frozen=True)
class Place:
    """Frames in which n pieces of every scene are built: ``position`` (B, n, 3), ``yaw`` (B, n) about z."""

    position: Tensor
    yaw: Tensor

    def shifted(self, x: Number, y: Number, z: Number, turn: Number = 0.0) -> Place:
        """Frames at (x, y, z) of these ones, turned by ``turn``; of one frame, as many as there are numbers."""
        cos, sin = self.yaw.cos(), self.yaw.sin()
        east, north, up = torch.broadcast_tensors(cos * x - sin * y, sin * x + cos * y, torch.zeros_like(cos) + z)
        position = self.position + torch.stack([east, north, up], -1)
        return Place(position, torch.zeros_like(position[..., 0]) + self.yaw + turn)


class Builder:
    """Builds B scenes from ``draws``; textures come from ``atlas``."""

    def __init__(self, draws: Draws, atlas: Atlas):
        self.draws = draws
        self.atlas = atlas
        self._pictures = tuple(atlas.texture(name) for name in atlas.patterns if name.startswith(PREFIX))
        self._parts: dict[str, list[tuple[Tensor, Tensor, Tensor, Tensor, Surface]]] = {shape: [] for shape in SHAPES}

    def place(self, x: Number, y: Number, z: Number, yaw: Number = 0.0) -> Place:
        """Frames at (x, y, z) of the world; each (B, n) or one value for all."""
        zero = torch.zeros(self.draws.samples, 1, device=self.draws.device)
        east, north, up, turn = torch.broadcast_tensors(*(zero + value for value in (x, y, z, yaw)))
        return Place(torch.stack([east, north, up], -1), turn)

    def colour(self, n: int, strength: float = 0.6) -> Tensor:
        """Paints (B, n, 3): some strong, most pale; the larger ``strength``, the stronger."""
        d = self.draws
        hue = d.unit(n, 1) + constant((0.0, 1 / 3, 2 / 3), d.device)
        wave = 0.5 + 0.5 * torch.cos(2 * math.pi * hue)
        saturation = strength * d.unit(n, 1).square() * 1.6
        return (1.0 + saturation * (wave - 0.6)).clamp(0.05, 1.6) * d.uniform(0.35, 1.25, n, 1)

    def surface(
        self,
        patterns: Sequence[str],
        n: int,
        tile_m: tuple[float, float],
        strength: float = 0.6,
        emission: Number = 0.0,
        gloss: float = 0.15,
    ) -> Surface:
        """n surfaces per scene with one of ``patterns`` each, squares of ``tile_m`` (least, most), random paint.

        Where there is a choice of patterns and the atlas has pictures, a quarter of the surfaces shows one of those.
        """
        d = self.draws
        first = tuple(self.atlas.texture(pattern) for pattern in patterns)
        variant = (d.unit(n) * self.atlas.variants).long()
        detail = (d.unit(n) * len(self.atlas.patterns) * self.atlas.variants).int()
        texture = d.one_of(first, n)
        if self._pictures and len(first) > 1:
            texture = torch.where(d.chance(_PICTURED, n), d.one_of(self._pictures, n), texture)
        return Surface(
            texture=(texture + variant).int(),
            detail=detail,
            tile_m=d.log_uniform(*tile_m, n),
            tint=self.colour(n, strength),
            emission=torch.zeros_like(d.unit(n)) + emission,
            gloss=gloss * d.unit(n).square(),
        )

    def box(
        self, place: Place, half: Sequence[Number], look: Surface, present: Tensor | bool = True, tilt: Number = 0.0
    ):
        """A box in each frame, centred on it, ``half`` sides; ``tilt`` about the frame's x."""
        self._add("box", place, half, look, present, tilt)

    def cylinder(
        self, place: Place, half: Sequence[Number], look: Surface, present: Tensor | bool = True, tilt: Number = 0.0
    ):
        """A cylinder; ``half``: radius along x, along y, half height; ``tilt`` pi / 2 lays it along the frame's y."""
        self._add("cylinder", place, half, look, present, tilt)

    def ellipsoid(
        self, place: Place, half: Sequence[Number], look: Surface, present: Tensor | bool = True, tilt: Number = 0.0
    ):
        """An ellipsoid with semi-axes ``half``."""
        self._add("ellipsoid", place, half, look, present, tilt)

    def _add(
        self, shape: str, place: Place, half: Sequence[Number], look: Surface, present: Tensor | bool, tilt: Number
    ):
        zero = torch.zeros_like(place.yaw)
        sides = torch.stack([zero + side for side in half], -1).clamp(min=1e-3)
        tilt = zero + tilt
        cy, sy, ct, st = place.yaw.cos(), place.yaw.sin(), tilt.cos(), tilt.sin()
        # About x by tilt, then about z by yaw.
        turn = torch.stack([cy, -sy * ct, sy * st, sy, cy * ct, -cy * st, zero, st, ct], -1).unflatten(-1, (3, 3))
        exists = torch.zeros_like(place.yaw, dtype=torch.bool) | present
        self._parts[shape].append((place.position, sides, turn, exists, look))

    def build(self, counts: tuple[int, int, int]) -> Solids:
        """Everything, padded to ``counts`` solids of each shape with ones that are not present."""
        columns: list[list[Tensor]] = [[], [], [], []]
        looks = []
        for shape, count in zip(SHAPES, counts, strict=True):
            parts = self._parts[shape]
            missing = count - sum(part[1].shape[1] for part in parts)
            if missing < 0:
                raise IndexError(f"{count - missing} solids of the shape {shape}, but room for {count}")
            for column, tensors in zip(columns, zip(*(part[:4] for part in parts), strict=True), strict=True):
                column.append(_padded(torch.cat(tensors, 1), missing))
            look = Surface.joined([part[4] for part in parts])
            looks.append(Surface(*(_padded(getattr(look, name), missing) for name in Surface.__dataclass_fields__)))
        centre, half, turn, present = (torch.cat(column, 1) for column in columns)
        return Solids(counts, centre, half, turn, present, Surface.joined(looks))


def _padded(tensor: Tensor, missing: int) -> Tensor:
    """(B, n, ...) with ``missing`` more along n: copies of the first, none of which is present."""
    more = tensor[:, :1].expand(-1, missing, *tensor.shape[2:])
    return torch.cat([tensor, torch.zeros_like(more) if tensor.dtype == torch.bool else more], 1)
