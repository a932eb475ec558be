"""Collects solids, looks and lamps for R rooms at once, places furniture, and packs it all into ``Rooms``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from da3_ros.training.scenes.atlas import Atlas
from da3_ros.training.scenes.rooms import SHAPES, Rooms, Surfaces

Number = float | int | torch.Tensor  # one value for all rooms, or (R,)


@dataclass(frozen=True)
class Spot:
    """Where a piece stands: ``position`` (R, 3) of its origin in the world and ``yaw`` (R,) of its x axis."""

    position: torch.Tensor
    yaw: torch.Tensor

    def to_world(self, offset: torch.Tensor) -> torch.Tensor:
        """World position (R, 3) of a point (R, 3) in the piece's frame."""
        cos, sin = self.yaw.cos(), self.yaw.sin()
        x, y, z = offset.unbind(-1)
        return self.position + torch.stack([cos * x - sin * y, sin * x + cos * y, z], -1)

    def moved(self, room: RoomBuilder, x: Number, y: Number, z: Number) -> Spot:
        """The spot at (x, y, z) of this one's frame, with the same yaw."""
        return Spot(self.to_world(room.vector((x, y, z))), self.yaw)


@dataclass(frozen=True)
class Look:
    """Surface of one solid; the fields of ``Surfaces`` for (R,) rooms."""

    texture: torch.Tensor
    tile_m: torch.Tensor
    shift: torch.Tensor
    tint: torch.Tensor
    emission: torch.Tensor


class RoomBuilder:
    """Builds ``count`` rooms with the random numbers of ``generator``, on its device."""

    def __init__(self, count: int, atlas: Atlas, generator: torch.Generator):
        self.count = count
        self.atlas = atlas
        self.generator = generator
        self._solids: dict[str, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, Look]]] = {
            shape: [] for shape in SHAPES
        }
        self._lamps: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Random numbers (R, *shape) between ``low`` and ``high``."""
        device = self.generator.device
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.generator, device=device)

    def vector(self, values: Sequence[Number]) -> torch.Tensor:
        """(R, k) of k numbers, each one value or (R,)."""
        device = self.generator.device
        columns = [torch.as_tensor(value, dtype=torch.float32, device=device) for value in values]
        return torch.stack([column.expand(self.count) for column in columns], -1)

    def colour(self) -> torch.Tensor:
        """A random strong paint (R, 3)."""
        hue = self.uniform(0.0, 1.0, 1) + torch.tensor([0.0, 1 / 3, 2 / 3], device=self.generator.device)
        wave = 0.5 + 0.5 * torch.cos(2 * math.pi * hue)
        return (wave * self.uniform(0.2, 0.9, 1) + self.uniform(0.08, 0.5, 1)).clamp(0.03, 1.0)

    def grey(self, low: float, high: float) -> torch.Tensor:
        """A random grey (R, 3)."""
        return self.uniform(low, high, 1).expand(-1, 3)

    def wood_tint(self) -> torch.Tensor:
        """A random stain for wood (R, 3)."""
        return self.uniform(0.45, 1.35, 1) * (1.0 + self.uniform(-0.12, 0.12, 3))

    def look(
        self,
        pattern: str,
        tile_m: float,
        tint: torch.Tensor | Sequence[float] = (1.0, 1.0, 1.0),
        emission: Number = 0.0,
    ) -> Look:
        """A surface with a random variant of ``pattern``; ``tile_m`` 0 stretches one square over the face."""
        variant = (self.uniform(0, 1) * self.atlas.variants).long().clamp(max=self.atlas.variants - 1)
        shift = self.uniform(0, 1, 2)
        return Look(
            texture=(self.atlas.texture(pattern) + variant).int(),
            tile_m=self.vector((tile_m,))[:, 0],
            shift=shift if tile_m > 0 else torch.zeros_like(shift),
            tint=tint if isinstance(tint, torch.Tensor) else self.vector(tint),
            emission=self.vector((emission,))[:, 0],
        )

    def box(self, spot: Spot, at: Sequence[Number], half: Sequence[Number], look: Look, turn: Number = 0.0) -> None:
        """Add a box centred at ``at`` in the spot's frame, with half sides ``half``, turned about z by ``turn``."""
        self._add("box", spot, at, half, look, turn)

    def cylinder(self, spot: Spot, at: Sequence[Number], half: Sequence[Number], look: Look) -> None:
        """Add an upright cylinder; ``half`` = (radius, radius, half height)."""
        self._add("cylinder", spot, at, half, look, 0.0)

    def ellipsoid(self, spot: Spot, at: Sequence[Number], half: Sequence[Number], look: Look) -> None:
        """Add an ellipsoid with semi-axes ``half``."""
        self._add("ellipsoid", spot, at, half, look, 0.0)

    def _add(self, shape: str, spot: Spot, at: Sequence[Number], half: Sequence[Number], look: Look, turn: Number):
        self._solids[shape].append((spot.to_world(self.vector(at)), self.vector(half), spot.yaw + turn, look))

    def lamp(
        self,
        spot: Spot,
        at: Sequence[Number],
        along_x: float,
        along_z: float,
        colour: Sequence[float],
        power: torch.Tensor,
    ) -> None:
        """Add a rectangular lamp in the plane of the wall that shines into the room (along the spot's y)."""
        side = self.vector((-along_x, 0, 0))
        sides = torch.stack([spot.to_world(side) - spot.position, self.vector((0, 0, along_z))], 1)
        self._lamps.append((spot.to_world(self.vector(at)), sides, power.unsqueeze(-1) * self.vector(colour)))

    def ceiling_lamp(self, at: torch.Tensor, half: tuple[float, float], power: torch.Tensor) -> None:
        """Add a panel below the ceiling at ``at`` (R, 3) that shines down with ``power`` (R,)."""
        colour = self.vector((1.0, 0.93, 0.82)) * (1 + self.uniform(-0.07, 0.07, 3))
        spot = Spot(at, torch.zeros_like(power))
        panel = self.look("plain", 0.5, colour, emission=0.4 + power / 6.0)
        self.box(spot, (0, 0, -0.02), (*half, 0.03), panel)
        sides = torch.stack([self.vector((-half[0], 0, 0)), self.vector((0, half[1], 0))], 1)
        below = at - self.vector((0, 0, 0.07))
        self._lamps.append((below, sides, power.unsqueeze(-1) * colour))

    def build(self, size: torch.Tensor, shell: Sequence[Look], ambient: torch.Tensor) -> Rooms:
        """Pack everything; ``size`` (R, 3) is the extent of the rooms, ``shell`` the looks of their six faces."""
        solids = [solid for shape in SHAPES for solid in self._solids[shape]]
        room = (size * self.vector((0, 0, 0.5)), size / 2, torch.zeros_like(size[:, 0]), shell[0])
        centre, half, yaw, looks = zip(*solids, room, strict=True)
        looks = (*looks[:-1], *shell)
        cos, sin = torch.stack(yaw, 1).cos(), torch.stack(yaw, 1).sin()
        zero, one = torch.zeros_like(cos), torch.ones_like(cos)
        turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
        names = ("texture", "tile_m", "shift", "tint", "emission")
        lamps = [torch.stack(parts, 1) for parts in zip(*self._lamps, strict=True)]
        return Rooms(
            counts=tuple(len(self._solids[shape]) for shape in SHAPES),  # type: ignore[arg-type]
            centre=torch.stack(centre, 1),
            half=torch.stack(half, 1),
            R_world_solid=turn,
            surfaces=Surfaces(**{name: torch.stack([getattr(look, name) for look in looks], 1) for name in names}),
            lamp_centre=lamps[0],
            lamp_sides=lamps[1],
            lamp_power=lamps[2],
            ambient=ambient,
            atlas=self.atlas,
        )
