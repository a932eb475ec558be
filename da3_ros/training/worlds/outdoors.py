"""Streets, yards and open country under a sky."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da3_ros.training.scenes.atlas import Atlas
from da3_ros.training.worlds import pieces
from da3_ros.training.worlds.builder import Builder, Place
from da3_ros.training.worlds.draws import Draws, constant
from da3_ros.training.worlds.solids import Light, Surface, Worlds

GROUNDS = ("grass", "asphalt", "gravel", "soil", "tiles", "concrete", "bricks")
FRONTS = ("facade", "facade", "bricks", "concrete", "plaster", "planks", "metal")
_EXTENT_M = 300.0


def outdoors(draws: Draws, atlas: Atlas, counts: tuple[int, int, int]) -> Worlds:
    """Ground with hills; in two of three scenes a street along x with houses, cars, poles, trees and a fence."""
    b, d = Builder(draws, atlas), draws
    street = d.chance(0.65).unsqueeze(1)
    wide = d.uniform(3.0, 7.0, 1)  # half of the street's width
    ground = b.surface(GROUNDS, 1, (1.5, 6.0), 0.3, gloss=0.0)
    b.box(b.place(0.0, 0.0, -0.5), (_EXTENT_M, _EXTENT_M, 0.5), ground)
    road = b.surface(("asphalt", "asphalt", "concrete", "tiles", "gravel"), 1, (2.0, 6.0), 0.2)
    b.box(b.place(0.0, 0.0, 0.01), (_EXTENT_M, wide, 0.012), road, street)
    line = b.surface(("plain",), 1, (2.0, 4.0), 0.2)
    dash = b.place(d.uniform(-3.0, 3.0, 1) + 6.0 * torch.arange(-3, 4, device=d.device), d.uniform(-0.5, 0.5, 1), 0.022)
    b.box(dash, (1.2, 0.07, 0.004), line.repeated(7), street & d.chance(0.6, 1))
    for end in (-1, 1):
        kerb = b.surface(("concrete", "tiles", "bricks", "plain"), 1, (0.8, 2.5), 0.3)
        b.box(b.place(0.0, end * (wide + 1.5), 0.05), (_EXTENT_M, 1.5, d.uniform(0.05, 0.12, 1)), kerb, street)

    houses = _houses(b, street, wide)
    look = b.surface(("shingles", "shingles", "metal", "plain"), 8, (1.0, 4.0), 0.6)
    b.box(houses[0].shifted(0, 0, houses[1][2] * 2), (houses[1][0] * 1.05, houses[1][1] * 1.05, 0.15), look, houses[2])
    hill, reach = _around(b, 5, 15.0, 120.0), d.log_uniform(4.0, 60.0, 5)
    b.ellipsoid(
        hill.shifted(0, 0, -0.1), (reach, reach * d.uniform(0.5, 2.0, 5), d.log_uniform(0.2, 14.0, 5)),
        b.surface(("grass", "soil", "leaves", "gravel"), 5, (2.0, 8.0), 0.3, gloss=0.0), d.chance(0.5, 5),
    )  # fmt: skip

    side = _sides(b, 4)
    parked = b.place(d.uniform(-25.0, 25.0, 4), side * (wide - d.uniform(0.9, 1.6, 4)), 0.02, d.uniform(-0.08, 0.08, 4))
    off_road = _around(b, 4, 5.0, 30.0)
    pieces.cars(b, _either(street, parked, off_road), d.chance(0.55, 4))
    kerbside = b.place(d.uniform(-25.0, 25.0, 6), _sides(b, 6) * (wide + d.uniform(0.2, 3.5, 6)), 0.0)
    pieces.plants(
        b, _either(street, kerbside, _around(b, 6, 3.0, 40.0)), d.log_uniform(1.5, 12.0, 6), d.chance(0.6, 6), 2
    )
    posts = b.place(d.uniform(-20.0, 20.0, 6), _sides(b, 6) * (wide + d.uniform(0.1, 1.0, 6)), 0.0)
    high = d.log_uniform(0.8, 8.0, 6)
    posts, upright = _either(street, posts, _around(b, 6, 2.0, 20.0)), d.chance(0.6, 6)
    pieces.poles(b, posts, (0.02, 0.15), high, upright)
    sign = b.surface(("print_", "checker", "stripes", "plain", "painting"), 3, (0.4, 1.5), 1.2)
    first = Place(posts.position[:, :3], posts.yaw[:, :3] + d.uniform(-0.6, 0.6, 3) + math.pi / 2)
    half = d.log_uniform(0.2, 1.0, 3), 0.02, d.log_uniform(0.2, 0.8, 3)
    b.box(first.shifted(0, 0.1, high[:, :3] * 0.9), half, sign, upright[:, :3] & d.chance(0.7, 3))
    line_of_posts = b.place(d.uniform(-15.0, 15.0, 1), _sides(b, 1) * (wide + 2.8), 0.0, d.uniform(-0.1, 0.1, 1))
    pieces.fence(b, _either(street, line_of_posts, _around(b, 1, 3.0, 15.0)), 9, d.chance(0.55, 1))
    pieces.boxes(
        b, _around(b, 12, 1.5, 25.0), (0.2, 2.5), (*pieces.PRINTED, *pieces.WOODEN, "bricks"), d.chance(0.5, 12)
    )
    pieces.heap(b, _around(b, 1, 2.5, 15.0), d.log_uniform(0.5, 4.0, 1), (8, 0, 0), d.chance(0.4, 1))
    walkers = b.place(
        d.uniform(-20.0, 20.0, 2), _sides(b, 2) * (wide + d.uniform(-1.5, 2.8, 2)), 0.06, d.uniform(-3.2, 3.2, 2)
    )
    pieces.people(b, _either(street, walkers, _around(b, 2, 2.0, 20.0)), d.chance(0.5, 2))
    pieces.cans(b, _around(b, 4, 1.5, 20.0), (0.1, 0.6), pieces.ANY, d.chance(0.5, 4))
    pieces.balls(b, _around(b, 7, 1.5, 25.0), (0.1, 1.3), (*pieces.ANY, "leaves", "leaves", "grass"), d.chance(0.5, 7))
    zero = torch.zeros_like(street[:, 0].float())
    room = torch.stack([zero, zero, zero], -1)
    unused = Surface.joined([ground] * 6)
    return Worlds(b.build(counts), daylight(b), street[:, 0] & ~street[:, 0], room, room + 1e4, unused)


def daylight(b: Builder) -> Light:
    """Sun, or none behind clouds; blue or grey sky, haze at times."""
    d = b.draws
    turn, high = d.uniform(-math.pi, math.pi), d.uniform(0.25, 1.4)
    sun = 80.0 * torch.stack([turn.cos() * high.cos(), turn.sin() * high.cos(), high.sin()], -1)
    overcast = d.chance(0.35).unsqueeze(1)
    warm = torch.stack([1.0 + d.uniform(0.0, 0.2), torch.ones_like(turn), 1.0 - d.uniform(0.0, 0.3)], -1)
    bright = d.log_uniform(0.5, 1.4, 1)
    blue = torch.stack([d.uniform(0.10, 0.35), d.uniform(0.25, 0.5), d.uniform(0.55, 1.0)], -1)
    grey = d.uniform(0.35, 1.1, 1).expand(-1, 3)
    zenith = torch.where(overcast, grey, blue) * bright
    clear = torch.where(d.chance(0.7), 2000.0, d.log_uniform(30.0, 400.0))
    variant = (d.unit() * b.atlas.variants).int()
    return Light(
        lamp=sun,
        lamp_colour=warm * bright * torch.where(overcast, d.uniform(0.0, 0.25, 1), d.uniform(0.8, 1.8, 1)),
        lamp_reach=torch.full_like(turn, 1e6),
        fill=-0.5 * sun + 60.0 * constant((0.0, 0.0, 1.0), d.device),
        fill_colour=0.15 * bright * zenith,
        ambient=torch.where(overcast, 0.75 * warm, 0.25 + 0.35 * blue) * bright,
        zenith=zenith,
        horizon=torch.where(overcast, 0.9 * grey, 0.75 + 0.3 * blue) * bright,
        haze_m=clear,
        clouds=b.atlas.texture("clouds") + variant,
        cloudiness=torch.where(d.chance(0.6), d.uniform(0.2, 0.8), 0.0),
    )


def _houses(b: Builder, street: Tensor, wide: Tensor) -> tuple[Place, tuple[Tensor, ...], Tensor]:
    """8 houses: along both sides of the street, or far apart in the country; their places, half sizes, presence."""
    d = b.draws
    n = 8
    half = d.uniform(3.0, 8.0, n), d.uniform(3.0, 7.0, n), d.log_uniform(1.3, 11.0, n)
    along = (torch.arange(n, device=d.device) // 2 - 1.5) * 17.0 + d.uniform(-3.0, 3.0, n)
    sides = 1.0 - 2.0 * (torch.arange(n, device=d.device) % 2)
    at_street = b.place(along, sides * (wide + d.uniform(3.2, 9.0, n) + half[1]), 0.0, d.uniform(-0.06, 0.06, n))
    place = _either(street, at_street, _around(b, n, 12.0, 70.0))
    present = torch.where(street, d.chance(0.85, n), d.chance(0.3, n))
    b.box(place.shifted(0, 0, half[2]), half, b.surface(FRONTS, n, (3.0, 12.0), 0.6, gloss=0.05), present)
    return place, half, present


def _around(b: Builder, n: int, near: float, far: float) -> Place:
    """n frames on the ground, ``near`` to ``far`` metres from the origin, denser near it."""
    d = b.draws
    angle, radius = d.uniform(-math.pi, math.pi, n), d.log_uniform(near, far, n)
    return b.place(radius * angle.cos(), radius * angle.sin(), 0.0, d.uniform(-math.pi, math.pi, n))


def _sides(b: Builder, n: int) -> Tensor:
    """-1 or 1."""
    return torch.where(b.draws.chance(0.5, n), 1.0, -1.0)


def _either(condition: Tensor, place: Place, other: Place) -> Place:
    """``place`` where ``condition`` (B, 1) holds, else ``other``."""
    position = torch.where(condition.unsqueeze(-1), place.position, other.position)
    return Place(position, torch.where(condition, place.yaw, other.yaw))
