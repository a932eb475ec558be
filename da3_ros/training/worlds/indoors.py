"""Rooms, corridors and desks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da3_ros.training.scenes.atlas import Atlas
from da3_ros.training.worlds import pieces
from da3_ros.training.worlds.builder import Builder, Place
from da3_ros.training.worlds.draws import Draws
from da3_ros.training.worlds.solids import Light, Surface, Worlds

WALLS = ("plaster", "wallpaper", "bricks", "concrete", "plain", "planks", "tiles", "stripes", "fabric", "clouds")
FLOORS = ("planks", "tiles", "concrete", "marble", "carpet", "wood", "fabric", "checker", "gravel", "asphalt")


def rooms(draws: Draws, atlas: Atlas, counts: tuple[int, int, int]) -> Worlds:
    """Rooms and corridors with furniture along the walls, pictures and doors on them, and things on the floor."""
    b, d = Builder(draws, atlas), draws
    corridor = d.chance(0.15)
    long, deep = d.uniform(3.0, 12.0), torch.where(corridor, d.uniform(1.4, 2.6), d.uniform(2.8, 9.0))
    half = torch.stack([long, deep, d.uniform(2.2, 4.0)], -1) / 2
    on_walls(b, half)
    free = (~corridor).unsqueeze(1)
    table = _along_walls(b, half, 2, 0.6)
    size = d.uniform(0.7, 1.9, 2), d.uniform(0.5, 1.0, 2), d.uniform(0.4, 0.95, 2)
    wanted = free & d.chance(0.75, 2)
    pieces.tables(b, table, *size, wanted)
    for put, patterns in ((pieces.boxes, pieces.ANY), (pieces.cans, pieces.ANY), (pieces.balls, pieces.ANY)):
        for which in range(2):
            on_top = Place(table.position[:, which, None].expand(-1, 3, -1), table.yaw[:, which, None].expand(-1, 3))
            x, y = ((d.uniform(-0.42, 0.42, 3) * size[axis][:, which, None]) for axis in (0, 1))
            top = on_top.shifted(x, y, size[2][:, which, None], d.uniform(-3.2, 3.2, 3))
            extent = (0.03, 0.15) if put is not pieces.boxes else (0.04, 0.5)
            put(b, top, extent, patterns, wanted[:, which, None] & d.chance(0.7, 3))
    pieces.chairs(b, table.shifted(d.uniform(-0.4, 0.4, 2), -0.6, 0, d.uniform(2.2, 4.0, 2)), wanted & d.chance(0.7, 2))
    pieces.shelves(b, _along_walls(b, half, 2, 0.2), free & d.chance(0.6, 2))
    pieces.boxes(b, _along_walls(b, half, 5, 0.35), (0.3, 1.8), (*pieces.WOODEN, *pieces.SOFT), d.chance(0.7, 5))
    floor = _anywhere(b, half, 6)
    pieces.boxes(b, floor, (0.06, 0.7), pieces.ANY, d.chance(0.6, 6))
    pieces.cans(b, _anywhere(b, half, 4), (0.03, 0.3), pieces.ANY, d.chance(0.5, 4))
    pieces.balls(b, _anywhere(b, half, 4), (0.05, 0.5), pieces.ANY, d.chance(0.5, 4))
    pieces.plants(b, _along_walls(b, half, 2, 0.3), d.uniform(0.5, 1.8, 2), d.chance(0.4, 2), crowns=3)
    pieces.heap(b, _anywhere(b, half, 1), d.log_uniform(0.3, 1.6, 1), (8, 5, 4), d.chance(0.45, 1))
    pieces.people(b, _anywhere(b, half, 1), d.chance(0.3, 1))
    high = 2 * half[:, 2:]
    pieces.poles(b, _along_walls(b, half, 4, 0.15), (0.008, 0.12), high * d.uniform(0.3, 1.0, 4), d.chance(0.5, 4))
    column = _anywhere(b, half, 2)
    look = b.surface(WALLS, 2, (0.5, 2.5))
    b.box(column.shifted(0, 0, high / 2), (d.uniform(0.1, 1.0, 2), 0.1, high / 2), look, free & d.chance(0.3, 2))
    zero = torch.zeros_like(half[:, 0])
    return Worlds(
        b.build(counts),
        lamps(b, half),
        torch.ones_like(corridor),
        torch.stack([zero, zero, half[:, 2]], -1),
        half,
        shell(b),
    )


def desks(draws: Draws, atlas: Atlas, counts: tuple[int, int, int]) -> Worlds:
    """A desk or bench in the middle of a room, crowded with things; its top is at the origin's height 0.75 m."""
    b, d = Builder(draws, atlas), draws
    half = torch.stack([d.uniform(2.0, 8.0), d.uniform(2.0, 7.0), d.uniform(2.2, 3.5)], -1) / 2
    half = half.clamp(min=1.6)
    on_walls(b, half)
    middle = b.place(0.0, 0.0, 0.0, d.uniform(-0.5, 0.5, 1))
    long, deep, high = d.uniform(0.8, 2.0, 1), d.uniform(0.6, 1.2, 1), torch.full_like(half[:, :1], DESK_M)
    pieces.tables(b, middle, long, deep, high, torch.ones_like(d.chance(1.0, 1)))

    def spots(n: int) -> Place:
        """n spots on the top, denser in its middle."""
        x, y = d.normal(n).clamp(-2.4, 2.4) * 0.2 * long, d.normal(n).clamp(-2.4, 2.4) * 0.2 * deep
        return middle.shifted(x, y, high, d.uniform(-3.2, 3.2, n))

    pieces.boxes(b, spots(12), (0.02, 0.3), (*pieces.PRINTED, *pieces.ANY), d.chance(0.6, 12))
    pieces.heap(b, spots(1), d.log_uniform(0.08, 0.5, 1), (10, 6, 5), d.chance(0.5, 1))
    flat = spots(6)
    sheet = b.surface(("poster", "print_", "books", "painting", "fabric"), 6, (0.15, 0.5))
    b.box(
        flat.shifted(0, 0, 0.006), (d.uniform(0.05, 0.2, 6), d.uniform(0.05, 0.15, 6), 0.006), sheet, d.chance(0.6, 6)
    )
    pieces.cans(b, spots(8), (0.012, 0.07), pieces.ANY, d.chance(0.6, 8))
    pens = spots(4)
    look = b.surface(("plain", "stripes", "metal"), 4, (0.03, 0.2), 1.0)
    b.cylinder(pens.shifted(0, 0, 0.005), (0.005, 0.005, d.uniform(0.05, 0.1, 4)), look, d.chance(0.5, 4), math.pi / 2)
    pieces.balls(b, spots(8), (0.015, 0.09), pieces.ANY, d.chance(0.5, 8))
    pieces.plants(b, spots(1), d.uniform(0.2, 0.5, 1), d.chance(0.4, 1), crowns=3)
    screen = middle.shifted(d.uniform(-0.3, 0.3, 1), deep * 0.35, high + 0.3, d.uniform(-0.3, 0.3, 1))
    seen = d.chance(0.5, 1)
    shown = b.surface(("poster", "print_", "painting", "outdoors"), 1, (0.4, 1.0), emission=0.3, gloss=1.0)
    b.box(screen, (d.uniform(0.18, 0.4, 1), 0.015, d.uniform(0.12, 0.22, 1)), shown, seen)
    b.box(screen.shifted(0, 0.03, -0.15), (0.03, 0.015, 0.15), b.surface(("plain", "metal"), 1, (0.2, 0.5)), seen)
    pieces.poles(b, spots(2), (0.004, 0.012), d.uniform(0.2, 0.6, 2), d.chance(0.4, 2))
    pieces.shelves(b, _along_walls(b, half, 1, 0.2), d.chance(0.6, 1))
    pieces.boxes(b, _along_walls(b, half, 4, 0.35), (0.3, 1.8), pieces.ANY, d.chance(0.7, 4))
    pieces.chairs(
        b, middle.shifted(d.uniform(-0.5, 0.5, 1), -deep / 2 - 0.3, 0, d.uniform(2.2, 4.0, 1)), d.chance(0.5, 1)
    )
    zero = torch.zeros_like(half[:, 0])
    inside = torch.ones_like(zero, dtype=torch.bool)
    return Worlds(b.build(counts), lamps(b, half), inside, torch.stack([zero, zero, half[:, 2]], -1), half, shell(b))


DESK_M = 0.75


def on_walls(b: Builder, half: Tensor) -> None:
    """Doors, windows, pictures, boards: 8 thin boxes on the walls; a few lamps of which one sees the cover."""
    d = b.draws
    place = _along_walls(b, half, 6, 0.01)
    wide, high = d.log_uniform(0.15, 0.9, 6), d.log_uniform(0.15, 0.9, 6)
    level = (half[:, 2:] * d.uniform(0.6, 1.4, 6)).maximum(high)
    look = b.surface(("painting", "poster", "print_", "checker", "colours", "clouds"), 6, (0.4, 1.5), 0.9, gloss=0.3)
    b.box(place.shifted(0, 0, level), (wide, d.uniform(0.01, 0.05, 6), high), look, d.chance(0.7, 6))
    door = _along_walls(b, half, 2, 0.01)
    b.box(door.shifted(0, 0, 1.0), (0.45, 0.03, 1.0), b.surface(WALLS, 2, (1.0, 2.5), 0.8), d.chance(0.6, 2))
    window = _along_walls(b, half, 2, 0.005)
    bright = b.surface(("outdoors",), 2, (0.9, 2.5), 0.1, emission=d.uniform(0.6, 2.5, 2))
    b.box(window.shifted(0, 0, 1.4), (d.uniform(0.4, 1.2, 2), 0.02, d.uniform(0.4, 0.7, 2)), bright, d.chance(0.6, 2))
    lamp = _anywhere(b, half, 2)
    cover = b.surface(("plain",), 2, (0.5, 1.0), 0.1, emission=d.uniform(1.0, 3.0, 2))
    b.box(lamp.shifted(0, 0, 2 * half[:, 2:] - 0.03), (d.uniform(0.1, 0.7, 2), 0.15, 0.03), cover, d.chance(0.6, 2))


def lamps(b: Builder, half: Tensor) -> Light:
    """A lamp in the upper half of the room and weaker light from somewhere else."""
    d = b.draws
    zero = torch.zeros_like(half[:, 0])
    at = torch.stack([*(half[:, axis] * d.uniform(-0.8, 0.8) for axis in (0, 1)), half[:, 2] * d.uniform(1.3, 1.9)], -1)
    other = torch.stack(
        [half[:, axis] * d.uniform(-0.9, 0.9) for axis in (0, 1)] + [half[:, 2] * d.uniform(0.8, 1.9)], -1
    )
    tone = torch.stack([1.0 + d.uniform(-0.05, 0.35), 1.0 + zero, 1.0 + d.uniform(-0.4, 0.2)], -1)
    return Light(
        lamp=at,
        lamp_colour=tone * d.log_uniform(0.3, 2.0, 1),
        lamp_reach=half[:, 0] * d.uniform(0.8, 2.0),
        fill=other,
        fill_colour=tone.flip(-1) * d.uniform(0.0, 0.6, 1),
        ambient=tone * d.log_uniform(0.1, 0.7, 1),
        zenith=tone * 0.0,
        horizon=tone * 0.0,
        haze_m=zero + 1e9,
        clouds=torch.full_like(zero, b.atlas.texture("clouds"), dtype=torch.int32),
        cloudiness=zero,
    )


def shell(b: Builder) -> Surface:
    """Surfaces of a room's six faces: walls mostly alike, one of another kind at times."""
    d = b.draws
    wall, accent = b.surface(WALLS, 1, (0.6, 3.0), 0.5, gloss=0.05), b.surface(WALLS, 1, (0.6, 3.0), 0.9)
    floor, ceiling = b.surface(FLOORS, 1, (0.6, 3.0), 0.3, gloss=0.4), b.surface(pieces.PAINTED, 1, (1.0, 4.0), 0.2)
    accent = accent.chosen(d.chance(0.5), wall)
    return Surface.joined([wall, accent, wall, wall, floor, ceiling])


def _along_walls(b: Builder, half: Tensor, n: int, off: float) -> Place:
    """n frames ``off`` metres before the walls, y towards the wall."""
    d = b.draws
    side = (d.unit(n) * 4).floor()
    on_x = side < 2  # on the walls -y and +y
    sign = 1.0 - 2.0 * (side % 2)
    where = d.uniform(-0.9, 0.9, n)
    hx, hy = half[:, :1], half[:, 1:2]
    x = torch.where(on_x, where * hx, sign * (hx - off))
    y = torch.where(on_x, sign * (hy - off), where * hy)
    yaw = torch.where(on_x, torch.where(sign > 0, 0.0, math.pi), torch.where(sign > 0, -math.pi / 2, math.pi / 2))
    return b.place(x, y, 0.0, yaw)


def _anywhere(b: Builder, half: Tensor, n: int) -> Place:
    """n frames on the floor."""
    d = b.draws
    x, y = half[:, :1] * d.uniform(-0.95, 0.95, n), half[:, 1:2] * d.uniform(-0.95, 0.95, n)
    return b.place(x, y, 0.0, d.uniform(-math.pi, math.pi, n))
