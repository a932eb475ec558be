"""How far points are from the surfaces of a room."""

from __future__ import annotations

import torch
from torch import Tensor

from da3_ros.training.scenes.rooms import Rooms


def surface_distance(rooms: Rooms, points: Tensor) -> Tensor:
    """Distance (n,) metres of ``points`` (n, 3) in the world from the nearest surface of the only room in ``rooms``.

    Of round cylinders and boxes exact; of an ellipsoid by its implicit function over the length of its gradient, which
    is exact on the surface and for balls.
    """
    offset = points[:, None] - rooms.centre[0]  # (n, P, 3)
    local = (offset[..., None, :] @ rooms.R_world_solid[0])[..., 0, :]
    half = rooms.half[0].clamp(min=1e-6)
    boxes, cylinders, balls = rooms.counts
    round_, ball = slice(boxes, boxes + cylinders), slice(boxes + cylinders, boxes + cylinders + balls)
    beyond = local.abs() - half
    tube = torch.stack([local[:, round_, :2].norm(dim=-1) - half[round_, 0], beyond[:, round_, 2]], -1)
    stretched = local[:, ball] / half[ball]
    radius, gradient = stretched.norm(dim=-1), (stretched / half[ball]).norm(dim=-1)
    found = [
        _outside(beyond[:, :boxes]),
        _outside(beyond[:, -1:]),  # the room, seen from inside
        _outside(tube),
        radius * (radius - 1) / gradient.clamp(min=1e-9),
    ]
    return torch.cat(found, 1).abs().amin(1)


def _outside(beyond: Tensor) -> Tensor:
    """Signed distance (n, K) of a product of intervals from how far (n, K, axes) each coordinate is beyond its own."""
    return beyond.clamp(min=0.0).norm(dim=-1) + beyond.amax(-1).clamp(max=0.0)
