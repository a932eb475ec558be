"""What the scenes of a batch consist of: solids, their surfaces, lamps and sky, as padded tensors.

World frame: z up, x and y level, metres. Letters: B scenes, K solids of a scene, V views, P pixels of a view.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

SHAPES = ("box", "cylinder", "ellipsoid")


@dataclass(frozen=True)
class Surface:
    """How solids look, (B, n) each or (B, n, k)."""

    texture: Tensor  # int32, number in the atlas
    detail: Tensor  # int32, a second texture, which modulates the first
    tile_m: Tensor  # side of the texture's square
    tint: Tensor  # (B, n, 3) factor on the albedo
    emission: Tensor  # light of its own
    gloss: Tensor  # strength of highlights

    def repeated(self, n: int) -> Surface:
        """n alike, of one."""
        single = (getattr(self, field.name) for field in fields(self))
        return Surface(*(value.expand(-1, n, *value.shape[2:]) for value in single))

    @staticmethod
    def joined(parts: list[Surface]) -> Surface:
        """Side by side along the solids."""
        return Surface(*(torch.cat([getattr(part, field.name) for part in parts], 1) for field in fields(Surface)))

    def chosen(self, condition: Tensor, other: Surface) -> Surface:
        """This one where ``condition`` (B,) holds, else ``other``."""
        return Surface(*(_where(condition, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


@dataclass(frozen=True)
class Solids:
    """Solids of all shapes, sorted by shape: ``counts`` of each in SHAPES, the same in every scene.

    A solid is its unit shape (box: |x|, |y|, |z| <= 1; cylinder: x^2 + y^2 <= 1, |z| <= 1; ellipsoid: unit ball)
    scaled by ``half`` (B, K, 3), turned by ``R_world_solid`` (B, K, 3, 3) and moved to ``centre`` (B, K, 3). Where
    ``present`` (B, K) is not set there is none.
    """

    counts: tuple[int, int, int]
    centre: Tensor
    half: Tensor
    R_world_solid: Tensor
    present: Tensor
    surface: Surface

    def world_to_unit(self) -> Tensor:
        """(B, K, 3, 3) matrices from world directions to coordinates of the unit shapes."""
        return self.R_world_solid.mT / self.half.unsqueeze(-1)

    def radius(self) -> Tensor:
        """(B, K) radius of a ball about ``centre`` that holds the solid."""
        boxes, cylinders, _ = self.counts
        tube = (self.half[..., :2].amax(-1).square() + self.half[..., 2].square()).sqrt()
        parts = (self.half.norm(dim=-1)[:, :boxes], tube[:, boxes : boxes + cylinders])
        return torch.cat([*parts, self.half.amax(-1)[:, boxes + cylinders :]], 1)

    def without(self, gone: Tensor) -> Solids:
        """Without the solids where ``gone`` (B, K) is set."""
        return Solids(self.counts, self.centre, self.half, self.R_world_solid, self.present & ~gone, self.surface)

    def chosen(self, condition: Tensor, other: Solids) -> Solids:
        """The scenes of this one where ``condition`` (B,) holds, else those of ``other``; equal counts."""
        assert self.counts == other.counts
        return Solids(
            self.counts,
            _where(condition, self.centre, other.centre),
            _where(condition, self.half, other.half),
            _where(condition, self.R_world_solid, other.R_world_solid),
            _where(condition, self.present, other.present),
            self.surface.chosen(condition, other.surface),
        )


@dataclass(frozen=True)
class Light:
    """What lights B scenes. Each scene has a lamp that throws shadows, a second one that does not, and a sky."""

    lamp: Tensor  # (B, 3) position; the sun is one far away
    lamp_colour: Tensor  # (B, 3)
    lamp_reach: Tensor  # (B,) metres at which its light has halved; large for the sun
    fill: Tensor  # (B, 3) position of the second lamp
    fill_colour: Tensor  # (B, 3)
    ambient: Tensor  # (B, 3) light from everywhere
    zenith: Tensor  # (B, 3) colour of the sky overhead
    horizon: Tensor  # (B, 3) colour of the sky at the horizon, and of haze
    haze_m: Tensor  # (B,) distance over which haze builds up
    clouds: Tensor  # (B,) int32 texture of the clouds
    cloudiness: Tensor  # (B,) 0..1

    def chosen(self, condition: Tensor, other: Light) -> Light:
        """This one where ``condition`` (B,) holds, else ``other``."""
        return Light(*(_where(condition, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))


@dataclass(frozen=True)
class Worlds:
    """B scenes: solids, light, and the room around them: a box seen from inside, where ``indoors`` (B,) is set.

    ``room_centre``, ``room_half`` (B, 3); ``room_surface`` (B, 6): its faces -x +x -y +y -z +z.
    """

    solids: Solids
    light: Light
    indoors: Tensor
    room_centre: Tensor
    room_half: Tensor
    room_surface: Surface

    def chosen(self, condition: Tensor, other: Worlds) -> Worlds:
        """The scenes of this one where ``condition`` (B,) holds, else those of ``other``."""
        return Worlds(
            self.solids.chosen(condition, other.solids),
            self.light.chosen(condition, other.light),
            torch.where(condition, self.indoors, other.indoors),
            _where(condition, self.room_centre, other.room_centre),
            _where(condition, self.room_half, other.room_half),
            self.room_surface.chosen(condition, other.room_surface),
        )


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition.view(-1, *[1] * (a.dim() - 1)), a, b)
