"""Furnished rooms as tensors: what stands where, how it is coloured, which lamps shine.

World frame: z up, floor at z = 0, origin in the middle of the floor, x along the longer walls (REP 103 axes).
Letters beside those of datatypes.py: R rooms, P solids, L lamps.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from da3_ros.training.scenes.atlas import Atlas

SHAPES = ("box", "cylinder", "ellipsoid")


@dataclass(frozen=True)
class Surfaces:
    """How things look, each (R, P + 5) or (R, P + 5, k): the P - 1 solids, then the room's faces -x +x -y +y -z +z."""

    texture: torch.Tensor  # int32, texture number in the atlas
    tile_m: torch.Tensor  # side of one texture square in metres; 0: the square fills the face
    shift: torch.Tensor  # (R, P + 5, 2) offset of the texture, in squares
    tint: torch.Tensor  # (R, P + 5, 3) factor on the albedo
    emission: torch.Tensor  # light that the surface sends out itself, relative to white paper in the room

    def to(self, device: torch.device | str) -> Surfaces:
        """The same on ``device``."""
        return Surfaces(*(getattr(self, field.name).to(device) for field in fields(self)))


@dataclass(frozen=True)
class Rooms:
    """R rooms of P solids each. Solids are sorted by shape as in SHAPES; the last one is the room itself.

    A solid is its unit shape (box: |x|, |y|, |z| <= 1; cylinder: x^2 + y^2 <= 1, |z| <= 1; ellipsoid: unit ball)
    scaled by ``half`` (R, P, 3), turned by ``R_world_solid`` (R, P, 3, 3) and moved to ``centre`` (R, P, 3). The
    room is a box seen from inside. A solid of size 0 lies far outside the room and is not seen.
    """

    counts: tuple[int, int, int]  # number of solids of each shape, the room left out
    centre: torch.Tensor
    half: torch.Tensor
    R_world_solid: torch.Tensor
    surfaces: Surfaces
    lamp_centre: torch.Tensor  # (R, L, 3) centres of rectangular lamps
    lamp_sides: torch.Tensor  # (R, L, 2, 3) half sides of the rectangles; light leaves along their cross product
    lamp_power: torch.Tensor  # (R, L, 3) radiance
    ambient: torch.Tensor  # (R, 3) light from everywhere
    atlas: Atlas

    @property
    def size(self) -> torch.Tensor:
        """(R, 3) extent of the rooms along x, y and z in metres."""
        return 2 * self.half[:, -1]

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.centre.device

    def to(self, device: torch.device | str) -> Rooms:
        """The same on ``device``."""
        moved: dict[str, Any] = {
            field.name: getattr(self, field.name).to(device) for field in fields(self) if field.name != "counts"
        }
        return replace(self, **moved)

    def shape_of(self) -> torch.Tensor:
        """(P,) index into SHAPES of each solid (the room counts as a box)."""
        kinds = [kind for kind, count in enumerate(self.counts) for _ in range(count)]
        return torch.tensor([*kinds, 0], device=self.device)

    def world_to_unit(self) -> torch.Tensor:
        """(R, P, 3, 3) matrices that turn world directions into the coordinates of the unit shapes."""
        return self.R_world_solid.transpose(-1, -2) / self.half.clamp(min=1e-6).unsqueeze(-1)

    def radius(self) -> torch.Tensor:
        """(R, P) radius of a ball about ``centre`` that holds the solid."""
        shape = self.shape_of()
        cylinder = torch.maximum(self.half[..., 0], self.half[..., 1]).square() + self.half[..., 2].square()
        radius = torch.where(shape == 1, cylinder.sqrt(), self.half.norm(dim=-1))
        return torch.where(shape == 2, self.half.amax(-1), radius)
