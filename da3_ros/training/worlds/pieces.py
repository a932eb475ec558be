"""Things that are put together from several solids: furniture, cars, trees, fences, things that lie about."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from da3_ros.training.worlds.builder import Builder, Place

WOODEN = ("wood", "planks", "plain", "metal", "marble", "colours")
PRINTED = ("print_", "poster", "books", "painting", "checker", "stripes", "patches", "colours", "wallpaper", "carpet")
PAINTED = ("plain", "plaster", "metal", "concrete", "clouds")
SOFT = ("fabric", "carpet", "stripes", "patches", "checker")
ANY = (*WOODEN, *PRINTED, *PAINTED, *SOFT)


def tables(b: Builder, place: Place, long: Tensor, deep: Tensor, high: Tensor, present: Tensor) -> None:
    """Table tops on four thin legs: 5 boxes for each; sizes (B, n) in metres."""
    d, n = b.draws, place.yaw.shape[1]
    wood, thin = b.surface(WOODEN, n, (0.4, 2.0), gloss=0.4), d.uniform(0.012, 0.04, n)
    b.box(place.shifted(0, 0, high - 0.02), (long / 2, deep / 2, d.uniform(0.01, 0.03, n)), wood, present)
    for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        leg = place.shifted(x * (long / 2 - 0.05), y * (deep / 2 - 0.05), high / 2 - 0.02)
        b.box(leg, (thin, thin, high / 2 - 0.02), wood, present)


def chairs(b: Builder, place: Place, present: Tensor) -> None:
    """Chairs: 6 boxes for each."""
    d, n = b.draws, place.yaw.shape[1]
    frame, seat = b.surface(WOODEN, n, (0.2, 1.0)), b.surface(ANY, n, (0.2, 1.0))
    high, side, thin = d.uniform(0.4, 0.5, n), d.uniform(0.18, 0.26, n), d.uniform(0.01, 0.025, n)
    b.box(place.shifted(0, 0, high), (side, side, d.uniform(0.01, 0.05, n)), seat, present)
    b.box(place.shifted(0, side - 0.02, high + 0.25), (side, 0.02, d.uniform(0.15, 0.3, n)), seat, present)
    for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        b.box(place.shifted(x * (side - 0.02), y * (side - 0.02), high / 2), (thin, thin, high / 2), frame, present)


def shelves(b: Builder, place: Place, present: Tensor) -> None:
    """Shelves with books that stand against their back: 9 boxes for each."""
    d, n = b.draws, place.yaw.shape[1]
    wood = b.surface(WOODEN, n, (0.5, 2.0))
    wide, high, deep = d.uniform(0.3, 0.9, n), d.uniform(0.9, 2.2, n), d.uniform(0.12, 0.25, n)
    for side in (-1, 1):
        b.box(place.shifted(side * wide, 0, high / 2), (0.015, deep, high / 2), wood, present)
    b.box(place.shifted(0, deep, high / 2), (wide, 0.01, high / 2), wood, present)
    for board in range(3):
        level = high * (0.08 + 0.42 * board)
        b.box(place.shifted(0, 0, level), (wide, deep, 0.012), wood, present)
        tall, row = d.uniform(0.08, 0.17, n), d.uniform(0.3, 0.97, n) * wide
        look = b.surface(("books", "print_", "patches", "books"), n, (0.3, 0.6))
        stack = place.shifted(row - wide, deep * 0.1, level + 0.012 + tall)
        b.box(stack, (row, deep * 0.75, tall), look, present & d.chance(0.8, n))


def boxes(b: Builder, place: Place, size: tuple[float, float], patterns=ANY, present: Tensor | bool = True) -> None:
    """Boxes that stand at the places, sides between ``size`` metres each; one in six leans."""
    d, n = b.draws, place.yaw.shape[1]
    half = [d.log_uniform(*size, n) / 2 for _ in range(3)]
    tilt = torch.where(d.chance(0.17, n), d.uniform(-0.9, 0.9, n), 0.0)
    b.box(place.shifted(0, 0, half[2]), half, b.surface(patterns, n, (0.15, 1.5), 0.9), present, tilt)


def cans(b: Builder, place: Place, radius: tuple[float, float], patterns=ANY, present: Tensor | bool = True) -> None:
    """Upright cylinders that stand at the places, some tall and some flat; one in four lies."""
    d, n = b.draws, place.yaw.shape[1]
    wide = d.log_uniform(*radius, n)
    high = wide * d.log_uniform(0.3, 3.5, n)
    lies = d.chance(0.25, n)
    look = b.surface(patterns, n, (0.15, 1.0), 0.9, gloss=0.5)
    tilt = torch.where(lies, math.pi / 2, 0.0)
    b.cylinder(place.shifted(0, 0, torch.where(lies, wide, high)), (wide, wide, high), look, present, tilt)


def balls(b: Builder, place: Place, radius: tuple[float, float], patterns=ANY, present: Tensor | bool = True) -> None:
    """Balls, eggs and cushions that lie at the places."""
    d, n = b.draws, place.yaw.shape[1]
    wide = d.log_uniform(*radius, n)
    round_ = d.chance(0.5, n)
    half = [torch.where(round_, wide, wide * d.uniform(0.5, 1.5, n)) for _ in range(3)]
    b.ellipsoid(place.shifted(0, 0, half[2]), half, b.surface(patterns, n, (0.1, 1.0), 0.9, gloss=0.6), present)


def heap(b: Builder, place: Place, size: Tensor, parts: tuple[int, int, int], present: Tensor) -> None:
    """Machinery or rubbish: boxes, cylinders and balls (``parts``), turned anyhow, within ``size`` (B, 1) metres."""
    d = b.draws
    for add, n in zip((b.box, b.cylinder, b.ellipsoid), parts, strict=True):
        x, y, z = size * d.uniform(-0.5, 0.5, n), size * d.uniform(-0.5, 0.5, n), size * d.uniform(0.05, 0.9, n)
        spot = place.shifted(x, y, z, d.uniform(-math.pi, math.pi, n))
        half = [size * d.log_uniform(0.02, 0.35, n) for _ in range(3)]
        if add == b.cylinder:
            half[1] = half[0] = half[0] * 0.5
        square = torch.where(d.chance(0.5, n), 0.0, d.uniform(-math.pi, math.pi, n))
        add(spot, half, b.surface(ANY, n, (0.1, 1.0), 0.9, gloss=0.6), present & d.chance(0.8, n), square)


def people(b: Builder, place: Place, present: Tensor) -> None:
    """People who stand or walk, towards the frame's x: 4 cylinders and 2 ellipsoids for each."""
    d, n = b.draws, place.yaw.shape[1]
    tall = d.uniform(1.5, 1.95, n)
    cloth, skin = b.surface(SOFT, n, (0.3, 1.2), 0.9, gloss=0.0), b.surface(("plain",), n, (0.5, 1.0), 0.4)
    legs = b.surface(("plain", "fabric", "stripes"), n, (0.4, 1.0), 0.6, gloss=0.0)
    stride = d.uniform(-0.5, 0.5, n)
    turned = Place(place.position, place.yaw + math.pi / 2)  # limbs swing about the frame's x
    for side in (-1, 1):
        swing, long = side * stride, tall * 0.25
        leg = turned.shifted(side * 0.09, -swing.sin() * long, tall * 0.49 - swing.cos() * long)
        b.cylinder(leg, (0.07, 0.07, long), legs, present, -swing)
        reach = tall * 0.17
        arm = turned.shifted(side * 0.22, swing.sin() * reach, tall * 0.80 - swing.cos() * reach)
        b.cylinder(arm, (0.045, 0.045, reach), cloth, present, swing)
    b.ellipsoid(turned.shifted(0, 0, tall * 0.66), (0.19, 0.13, tall * 0.2), cloth, present)
    b.ellipsoid(turned.shifted(0, 0, tall * 0.93), (0.085, 0.1, tall * 0.07), skin, present)


def plants(b: Builder, place: Place, size: Tensor, present: Tensor, crowns: int) -> None:
    """A trunk (cylinder) with ``crowns`` balls of leaves; ``size`` (B, n) metres high."""
    d, n = b.draws, place.yaw.shape[1]
    thin = size * d.uniform(0.015, 0.04, n)
    trunk = b.surface(("wood", "soil", "planks"), n, (0.3, 1.0), 0.2)
    b.cylinder(place.shifted(0, 0, size * 0.35), (thin, thin, size * 0.35), trunk, present)
    leaf = b.surface(("leaves", "leaves", "grass"), n, (0.4, 1.5), 0.5, gloss=0.0)
    for _ in range(crowns):
        wide = size * d.uniform(0.13, 0.26, n)
        high = size * d.uniform(0.12, 0.3, n)
        crown = place.shifted(size * d.uniform(-0.12, 0.12, n), size * d.uniform(-0.12, 0.12, n), size - high)
        b.ellipsoid(crown, (wide, wide * d.uniform(0.8, 1.2, n), high), leaf, present)


def cars(b: Builder, place: Place, present: Tensor) -> None:
    """Cars and vans: 3 boxes and 2 cylinders (a pair of wheels each), along the frame's x."""
    d, n = b.draws, place.yaw.shape[1]
    long, wide, clear = d.uniform(1.7, 2.7, n), d.uniform(0.8, 1.0, n), d.uniform(0.2, 0.35, n)
    belt = d.uniform(0.25, 0.45, n)
    paint = b.surface(("plain", "plain", "metal"), n, (2.0, 8.0), 1.0, gloss=1.0)
    b.box(place.shifted(0, 0, clear + belt), (long, wide, belt), paint, present)
    cabin, roof = long * d.uniform(0.45, 0.95, n), d.uniform(0.2, 0.55, n)
    glass = b.surface(("plain", "clouds"), n, (1.0, 3.0), 0.3, gloss=1.5)
    glass = glass.__class__(**{**glass.__dict__, "tint": glass.tint * 0.15})
    top = place.shifted(-d.uniform(0.0, 0.4, n), 0, clear + 2 * belt + roof)
    b.box(top, (cabin, wide * 0.9, roof), glass, present)
    b.box(top.shifted(0, 0, roof), (cabin * 0.97, wide * 0.92, 0.03), paint, present)
    wheel = b.surface(("asphalt", "metal", "plain"), n, (0.2, 0.5), 0.1)
    wheel = wheel.__class__(**{**wheel.__dict__, "tint": wheel.tint * 0.25})
    for end in (-1, 1):
        axle = place.shifted(end * long * 0.62, 0, clear + 0.08)
        b.cylinder(axle, (clear + 0.08, clear + 0.08, wide * 1.01), wheel, present, math.pi / 2)


def fence(b: Builder, place: Place, posts: int, present: Tensor) -> None:
    """One fence: ``posts`` posts and 3 rails along the frame's x; ``place`` has one frame."""
    d = b.draws
    pitch, high, thin = d.uniform(0.5, 2.0, 1), d.uniform(0.7, 1.8, 1), d.uniform(0.02, 0.06, 1)
    look = b.surface(WOODEN, 1, (0.3, 2.0))
    many = look.repeated(posts)
    numbers = torch.arange(posts, device=d.device) - (posts - 1) / 2
    b.box(place.shifted(pitch * numbers, 0, high / 2), (thin, thin, high / 2), many, present)
    for rail in range(3):
        level = high * (0.25 + 0.32 * rail)
        b.box(place.shifted(0, 0, level), (pitch * posts / 2, thin * 0.6, thin), look, present)


def poles(b: Builder, place: Place, radius: tuple[float, float], high: Tensor, present: Tensor | bool) -> None:
    """Thin upright poles, ``high`` (B, n) metres."""
    d, n = b.draws, place.yaw.shape[1]
    thin = d.log_uniform(*radius, n)
    look = b.surface(("metal", "plain", "wood", "concrete", "stripes"), n, (0.3, 2.0))
    b.cylinder(place.shifted(0, 0, high / 2), (thin, thin, high / 2), look, present)
