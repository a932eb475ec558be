"""Rays against the solids of many views: a fused broadcast over pixels x solids, reduced to the nearest.

V views, P pixels of each. A camera ray has z = 1 in the camera, so that distance is z-depth. All values of pixels are
(V, P) tensors of their own, and vectors three of these, so that compiled functions keep what is between in registers.
"""

from __future__ import annotations

import importlib.util
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import torch
from torch import Tensor

from da3_ros.training.worlds.tables import CENTRE, FEATURES, ViewTables

NEAREST_M = 0.02
_INDEX_BITS = 8  # of the packed key: at most 256 solids, distances told apart at 3e-5 of themselves
_MISS = 1e30

Triple = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Hits:
    """What every pixel sees, (V, P) each: z-depth, large for sky; ``solid`` int64, n for the room; ``hit``, or sky.

    ``point``: where, in the world.
    """

    depth: Tensor
    solid: Tensor
    hit: Tensor
    point: Triple


def pixel_rays(K: Tensor, H: int, W: int) -> tuple[Tensor, Tensor]:
    """x and y (V, P) of the rays (x, y, 1) through the centres of the pixels of cameras K (V, 3, 3)."""
    place = torch.arange(H * W, device=K.device)
    u, v = (place % W).float() + 0.5, (place // W).float() + 0.5
    return (u - K[:, 0, 2, None]) / K[:, 0, 0, None], (v - K[:, 1, 2, None]) / K[:, 1, 1, None]


def world_rays(tables: ViewTables, x: Tensor, y: Tensor) -> Triple:
    """World directions of the rays (x, y, 1)."""
    R = tables.R_world_cam
    return tuple(R[:, i, 0, None] * x + R[:, i, 1, None] * y + R[:, i, 2, None] for i in range(3))  # type: ignore


def gathered(tables: ViewTables, row: Tensor, column: int) -> Tensor:
    """A feature (V, P) of the rows ``row`` (V, P)."""
    V, rows, _ = tables.features.shape
    first = torch.arange(V, device=row.device).unsqueeze(1) * rows
    return tables.features.view(-1)[(first + row) * FEATURES + column]


def unit_ray(tables: ViewTables, row: Tensor, way: Triple) -> tuple[Triple, Triple]:
    """The rays' origin and direction in the unit coordinates of the solids ``row`` (V, P)."""
    offset = [tables.eye[:, i, None] - gathered(tables, row, CENTRE + i) for i in range(3)]
    axes = [[gathered(tables, row, 3 * i + j) for j in range(3)] for i in range(3)]
    return tuple(dot(axis, offset) for axis in axes), tuple(dot(axis, way) for axis in axes)  # type: ignore


def seen(tables: ViewTables, H: int, W: int) -> Tensor:
    """Packed distance and number (V, P) int32 of the nearest solid of each pixel."""
    x, y = pixel_rays(tables.K, H, W)
    return nearest_key(tables.start, tables.towards, tables.seen, tables.counts, (x, y, torch.ones_like(x)))


def resolved(tables: ViewTables, key: Tensor, H: int, W: int) -> Hits:
    """The hits of packed keys. A key's distance is rounded: the nearest solid's own is computed again, in full."""
    found = key < _packed(torch.full((), _MISS / 2, device=key.device))  # a miss is rounded down, too
    solid = torch.where(found, key & ((1 << _INDEX_BITS) - 1), sum(tables.counts)).long()
    way = world_rays(tables, *pixel_rays(tables.K, H, W))
    o, d = unit_ray(tables, solid, way)
    in_slabs, in_tube, in_ball = _slabs(o, d), _tube(o, d), _ball(o, d)
    shape = shape_of(solid, tables.counts)
    enter = torch.where(shape == 0, in_slabs[0], torch.where(shape == 1, in_tube[0], in_ball[0]))
    inside = tables.indoors.unsqueeze(1)
    depth = torch.where(found, enter, torch.where(inside, in_slabs[1], _MISS))
    x, y, z = (tables.eye[:, i, None] + depth * way[i] for i in range(3))
    return Hits(depth, solid, found | inside, (x, y, z))


def shape_of(solid: Tensor, counts: tuple[int, int, int]) -> Tensor:
    """Number of the shape of the solids seen; the room is a box."""
    past = (solid >= counts[0]).long() + (solid >= counts[0] + counts[1]).long()
    return torch.where(solid == sum(counts), 0, past)


def in_shadow(tables: ViewTables, point: Triple, margin_m: float = 0.02) -> Tensor:
    """Whether a solid stands between the lamp and the points, (V, P) each; the room throws no shadow."""
    x, y, z = (point[i] - tables.light.lamp[:, i, None] for i in range(3))
    key = nearest_key(tables.blocker_lamp, tables.blocker_axes, tables.blockers, tables.counts, (x, y, z))
    return key < _packed(1.0 - margin_m / dot((x, y, z), (x, y, z)).sqrt().clamp(min=2 * margin_m))


def nearest_key(start: Tensor, axes: Tensor, numbers: Tensor, counts: tuple[int, int, int], way: Triple) -> Tensor:
    """Least packed (distance, number) (V, P) int32 over all solids; in units of the rays ``way``, (V, P) each.

    In unit coordinates, rays begin at ``start`` (V, 3, n) and go along ``axes`` (V, 3, 3, n) @ way. Of each shape's
    ``counts`` solids the first ``numbers`` (V, 3) exist.
    """
    if start.is_cuda and _has_triton():
        from da3_ros.training.worlds import kernels

        rays = tuple(axis.contiguous() for axis in way)
        return kernels.nearest_key(start, axes, numbers, counts, rays, NEAREST_M, _INDEX_BITS)  # type: ignore
    nearest = torch.full(way[0].shape, 0x7F800000, dtype=torch.int32, device=start.device)
    lines, A, begin = [axis.unsqueeze(-1) for axis in way], axes.unsqueeze(3), 0  # (V, P, 1), (V, 3, 3, 1, n)
    for count, most, shape in zip(counts, numbers.amax(0).tolist(), (_slabs, _tube, _ball), strict=True):
        part = slice(begin, begin + most)
        if most:
            x, y, z = (start[:, i, None, part] for i in range(3))
            u, v, w = (dot([A[:, i, j, :, part] for j in range(3)], lines) for i in range(3))
            enter, leave = shape((x, y, z), (u, v, w))
            meets = (enter < leave) & (enter > NEAREST_M)
            number = torch.arange(part.start, part.stop, device=enter.device, dtype=torch.int32)
            key = (_packed(torch.where(meets, enter, _MISS)) & (-1 << _INDEX_BITS)) | number
            nearest = torch.minimum(nearest, key.amin(-1))
        begin += count
    return nearest


@lru_cache(maxsize=1)
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _packed(distance: Tensor) -> Tensor:
    """The bits of positive floats, which as integers have the same order."""
    return distance.view(torch.int32)


def _slabs(o: Triple, d: Triple, axes: int = 3) -> tuple[Tensor, Tensor]:
    """Where a ray enters and leaves the unit box, or only -1 <= z <= 1 where ``axes`` is 1."""
    enter, leave = None, None
    for axis in range(3 - axes, 3):
        inverse = 1.0 / torch.where(d[axis].abs() < 1e-9, 1e-9, d[axis])
        middle, reach = -o[axis] * inverse, inverse.abs()
        enter = middle - reach if enter is None else torch.maximum(enter, middle - reach)
        leave = middle + reach if leave is None else torch.minimum(leave, middle + reach)
    assert enter is not None and leave is not None
    return enter, leave


def _roots(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Both t of a t^2 + 2 b t + c = 0, the first beyond the second where there is none."""
    discriminant = b * b - a * c
    root = torch.where(discriminant > 0, discriminant.clamp(min=0.0).sqrt(), -_MISS)
    inverse = 1.0 / a.clamp(min=1e-12)
    return (-b - root) * inverse, (-b + root) * inverse


def _tube(o: Triple, d: Triple) -> tuple[Tensor, Tensor]:
    """Where a ray enters and leaves the unit cylinder."""
    a = d[0] * d[0] + d[1] * d[1]
    b = o[0] * d[0] + o[1] * d[1]
    c = o[0] * o[0] + o[1] * o[1] - 1.0
    round_, flat = _roots(a, b, c), _slabs(o, d, axes=1)
    return torch.maximum(round_[0], flat[0]), torch.minimum(round_[1], flat[1])


def _ball(o: Triple, d: Triple) -> tuple[Tensor, Tensor]:
    """Where a ray enters and leaves the unit ball."""
    return _roots(dot(d, d), dot(o, d), dot(o, o) - 1.0)


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Sum of the products of components."""
    return reduce(operator.add, (x * y for x, y in zip(a, b, strict=True)))
