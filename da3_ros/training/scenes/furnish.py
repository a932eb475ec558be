"""Draws whole rooms: size, walls and floor, furniture in random order along the walls, a table in the middle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from da3_ros.training.scenes.atlas import Atlas, make_atlas
from da3_ros.training.scenes.builder import Look, RoomBuilder, Spot
from da3_ros.training.scenes.furniture import WALL_PIECES, barrels, crates, floor_lamp, plant, table
from da3_ros.training.scenes.rooms import Rooms

# Places along the walls: offset from the room's middle as a fraction of its length, depth, and the yaw with which
# a piece there looks into the room.
_SLOTS = (
    (-0.31, 0.5, math.pi), (0.0, 0.5, math.pi), (0.31, 0.5, math.pi),
    (-0.31, -0.5, 0.0), (0.0, -0.5, 0.0), (0.31, -0.5, 0.0),
    (-0.5, -0.18, -math.pi / 2), (-0.5, 0.18, -math.pi / 2),
    (0.5, -0.18, math.pi / 2), (0.5, 0.18, math.pi / 2),
)  # fmt: skip
# The same of a hall, which takes two of each piece.
_HALL_SLOTS = (
    *((x, side, math.pi if side > 0 else 0.0) for side in (-0.5, 0.5) for x in (-0.40, -0.24, -0.08, 0.08, 0.24, 0.40)),
    *((side, y, math.copysign(math.pi / 2, side)) for side in (-0.5, 0.5) for y in (-0.3, -0.1, 0.1, 0.3)),
)
_HALL_FREE = ((crates, 1, 1), (barrels, -1, 1), (floor_lamp, -1, -1), (plant, 1, -1))  # in the quarters of a hall


def make_rooms(count: int, generator: torch.Generator, atlas: Atlas | None = None) -> Rooms:
    """Draw ``count`` furnished rooms, 8 to 10 m by 7 to 8 m and about 3 m high, on the generator's device.

    ``atlas`` may be shared between calls: drawing one takes longer than drawing the rooms.
    """
    room = RoomBuilder(count, atlas or make_atlas(generator), generator)
    size = room.vector((room.uniform(8.0, 10.0), room.uniform(7.0, 8.0), room.uniform(2.7, 3.3)))
    for piece, spot in zip(WALL_PIECES, _spots(room, size, _SLOTS), strict=True):
        piece(room, spot)
    middle = room.vector((room.uniform(-0.25, 0.25), room.uniform(-0.25, 0.25), 0))
    table(room, Spot(middle, room.uniform(-0.4, 0.4)))
    for x in (-0.3, 0.3):
        at = size * room.vector((x, 0.0, 1.0)) - room.vector((0, 0, 0.04))
        room.ceiling_lamp(at, (0.6, 0.3), power=room.uniform(3.0, 9.0))
    return _enclosed(room, size)


def make_hall(size_m: tuple[float, float, float], generator: torch.Generator) -> Rooms:
    """One hall of ``size_m`` (x, y, z; 12 by 8 m and more), furnished along its walls and towards its corners.

    What lies more than 1.5 m off the walls is free but for the corners' quarters: |x| < 0.3 and |y| < 0.2 of the size.
    """
    room = RoomBuilder(1, make_atlas(generator), generator)
    size = room.vector(size_m)
    for piece, spot in zip((*WALL_PIECES, *WALL_PIECES), _spots(room, size, _HALL_SLOTS), strict=True):
        piece(room, spot)
    for piece, along, across in _HALL_FREE:
        piece(room, Spot(size * room.vector((0.36 * along, 0.28 * across, 0.0)), room.uniform(-math.pi, math.pi)))
    for x in (-0.3, 0.3):
        for y in (-0.25, 0.25):
            at = size * room.vector((x, y, 1.0)) - room.vector((0, 0, 0.04))
            room.ceiling_lamp(at, (0.6, 0.3), power=room.uniform(3.0, 9.0))
    return _enclosed(room, size)


def _enclosed(room: RoomBuilder, size: torch.Tensor) -> Rooms:
    """``room`` with walls, floor and ceiling about it."""
    wall = _one_of(room, ("plaster", "wallpaper", "bricks", "concrete"), tile_m=2.0, tint=_paint(room))
    accent = _one_of(room, ("plaster", "wallpaper", "bricks", "fabric"), tile_m=1.6, tint=room.colour() + 0.2)
    floor = _one_of(room, ("planks", "tiles", "concrete", "marble"), tile_m=2.0, tint=room.grey(0.6, 1.1))
    ceiling = room.look("plaster", tile_m=3.0, tint=room.grey(0.85, 1.05))
    shell = [wall, accent, wall, wall, floor, ceiling]
    ambient = room.uniform(0.01, 0.04, 1) * (1 + room.uniform(-0.1, 0.1, 3))
    return room.build(size, shell, ambient)


def _spots(room: RoomBuilder, size: torch.Tensor, places: Sequence[tuple[float, float, float]]) -> list[Spot]:
    """One spot for each of the ``places`` along the walls, in an order of each room's own."""
    device = room.generator.device
    slots = torch.tensor(places, device=device)
    order = room.uniform(0, 1, len(places)).argsort(-1)  # (R, slots)
    spots = []
    for chosen in order.unbind(-1):
        x, y, yaw = slots[chosen].unbind(-1)
        spots.append(Spot(torch.stack([x * size[:, 0], y * size[:, 1], torch.zeros_like(x)], -1), yaw))
    return spots


def _paint(room: RoomBuilder) -> torch.Tensor:
    """A light wall colour (R, 3)."""
    return (0.75 + 0.25 * room.colour()) * room.uniform(0.7, 1.05, 1)


def _one_of(room: RoomBuilder, patterns: tuple[str, ...], tile_m: float, tint: torch.Tensor) -> Look:
    """A look whose pattern differs from room to room."""
    looks = [room.look(pattern, tile_m, tint) for pattern in patterns]
    choice = (room.uniform(0, 1) * len(patterns)).long().clamp(max=len(patterns) - 1)
    texture = torch.stack([look.texture for look in looks], -1).gather(-1, choice.unsqueeze(-1))[:, 0]
    return replace(looks[0], texture=texture)
