"""Rays against rooms, as tensors: groups of rays that share room, origin and the solids that they may meet.

G groups of r rays, K candidate solids of one shape. A direction need not have unit length: distances are counted
in directions, so that with a camera ray of z = 1 the distance is the z-depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from da3_ros.training.scenes.charts import chart_size, to_chart
from da3_ros.training.scenes.rooms import Rooms

_NEAREST = 1e-3


@dataclass(frozen=True)
class Rays:
    """``room`` (G,) int64, ``origin`` (G, 3) and ``direction`` (G, 3, r) in the world.

    ``candidates``: for each shape (G, K) numbers of the solids to test; the room itself is always tested.
    """

    room: torch.Tensor
    origin: torch.Tensor
    direction: torch.Tensor
    candidates: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Hits:
    """What each of N = G x r rays met first; all flat, (N,) or (k, N)."""

    room: torch.Tensor  # int64
    distance: torch.Tensor
    solid: torch.Tensor  # int64, P - 1 is the room
    face: torch.Tensor  # int64
    uv: torch.Tensor  # (2, N) on the face's chart
    extent: torch.Tensor  # (2, N) metres of that chart
    cosine: torch.Tensor  # of the angle between ray and surface normal, 0..1


def all_candidates(rooms: Rooms, groups: int) -> tuple[torch.Tensor, ...]:
    """Every solid for every one of ``groups`` groups."""
    numbers = torch.arange(sum(rooms.counts), device=rooms.device).expand(groups, -1)
    return numbers.split(rooms.counts, dim=1)


def nearest(rooms: Rooms, rays: Rays) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance (G, r) to the first thing on each ray, and its solid's number (G, r)."""
    P = rooms.centre.shape[1]
    to_unit = rooms.world_to_unit().flatten(0, 1)
    centres = rooms.centre.flatten(0, 1)
    shell = torch.full_like(rays.room, P - 1).unsqueeze(1)
    # The room is seen from inside: its far wall counts.
    distance = _distances(to_unit, centres, P, rays, shell, _leave_box)[:, 0]
    solid = shell.expand_as(distance)
    for candidates, enter in zip(rays.candidates, (_enter_box, _enter_cylinder, _enter_ball), strict=True):
        if candidates.shape[1] == 0:
            continue
        found, which = _distances(to_unit, centres, P, rays, candidates, enter).min(1)
        closer = found < distance
        distance = torch.where(closer, found, distance)
        solid = torch.where(closer, candidates.gather(1, which), solid)
    return distance, solid


def trace(rooms: Rooms, rays: Rays) -> Hits:
    """The first thing on each ray, with its place on the surface."""
    distance, solid = nearest(rooms, rays)
    G, r = distance.shape
    P = rooms.centre.shape[1]
    room = rays.room.unsqueeze(1).expand(G, r)
    rows = (room * P + solid).reshape(-1)
    point = rays.origin.unsqueeze(-1) + distance.unsqueeze(1) * rays.direction
    point = point.permute(1, 0, 2).reshape(3, -1)
    direction = rays.direction.permute(1, 0, 2).reshape(3, -1)
    to_unit = rooms.world_to_unit().flatten(0, 1)[rows].permute(1, 2, 0)  # (3, 3, N)
    offset = point - rooms.centre.flatten(0, 1)[rows].T
    shape = rooms.shape_of()[solid.reshape(-1)]
    face, uv, outward = to_chart(shape, (to_unit * offset).sum(1))
    normal = (to_unit * outward.unsqueeze(1)).sum(0)
    cosine = (normal * direction).sum(0).abs() / (normal.norm(dim=0) * direction.norm(dim=0)).clamp(min=1e-9)
    extent = chart_size(shape, face, rooms.half.flatten(0, 1)[rows].T)
    return Hits(room.reshape(-1), distance.reshape(-1), solid.reshape(-1), face, uv, extent, cosine)


Test = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _distances(
    to_unit: torch.Tensor, centres: torch.Tensor, P: int, rays: Rays, candidates: torch.Tensor, test: Test
) -> torch.Tensor:
    """Distances (G, K, r) at which the rays meet the candidates, +Inf where they do not."""
    rows = rays.room.unsqueeze(1) * P + candidates
    matrices = to_unit[rows]  # (G, K, 3, 3)
    origin = (matrices @ (rays.origin.unsqueeze(1) - centres[rows]).unsqueeze(-1))[..., 0]  # (G, K, 3)
    G, K = candidates.shape
    by_axis = matrices.transpose(1, 2).reshape(G, 3 * K, 3)
    direction = (by_axis @ rays.direction).view(G, 3, K, -1)
    return test(origin.transpose(1, 2).unsqueeze(-1), direction)


def _slabs(origin: torch.Tensor, direction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where rays enter and leave -1 <= coordinate <= 1, for each coordinate."""
    inverse = 1.0 / torch.where(direction.abs() < 1e-9, 1e-9, direction)
    middle = -origin * inverse
    reach = inverse.abs()
    return middle - reach, middle + reach


def _if_valid(enter: torch.Tensor, leave: torch.Tensor) -> torch.Tensor:
    return torch.where((enter < leave) & (enter > _NEAREST), enter, torch.inf)


def _enter_box(origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    enter, leave = _slabs(origin, direction)
    return _if_valid(enter.amax(1), leave.amin(1))


def _leave_box(origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    return _slabs(origin, direction)[1].amin(1)


def _roots(o: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where |o + t d| = 1 (over dimension 1): both t, the first beyond the second where there is none."""
    a = d.square().sum(1).clamp(min=1e-12)
    b = (o * d).sum(1)
    c = o.square().sum(1) - 1.0
    discriminant = b.square() - a * c
    root = discriminant.clamp(min=0.0).sqrt()
    root = torch.where(discriminant > 0, root, -torch.inf)
    return (-b - root) / a, (-b + root) / a


def _enter_cylinder(origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    enter_round, leave_round = _roots(origin[:, :2], direction[:, :2])
    enter_slab, leave_slab = _slabs(origin[:, 2], direction[:, 2])
    return _if_valid(torch.maximum(enter_round, enter_slab), torch.minimum(leave_round, leave_slab))


def _enter_ball(origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    return _if_valid(*_roots(origin, direction))
