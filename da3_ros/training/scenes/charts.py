"""Charts: where a point on a unit shape lies on its faces, and back. Textures and light maps are stored by chart.

A shape has 6 faces of (u, v) in 0..1. Box: -x +x -y +y -z +z, v up on the upright ones. Cylinder: face 0 is the
mantle (u round it, v up), 4 and 5 are the caps. Ellipsoid: face 0 (u round, v up). Shapes are numbered as in
``rooms.SHAPES``.
"""

from __future__ import annotations

import math

import torch

FACES = 6


def to_chart(shape: torch.Tensor, point: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Face (N,), (u, v) (2, N) and outward direction (3, N) in unit coordinates of points on unit shapes.

    ``shape`` (N,), ``point`` (3, N) on the unit shape's surface.
    """
    face, uv, outward = chart_at(shape, *point)
    return face, torch.stack(uv), torch.stack(outward)


Pair = tuple[torch.Tensor, torch.Tensor]
Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def chart_at(
    shape: torch.Tensor, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor
) -> tuple[torch.Tensor, Pair, Triple]:
    """``to_chart`` of points given by coordinate, element by element: one kernel where it is compiled."""
    ax, ay, az = x.abs(), y.abs(), z.abs()
    is_x = (ax >= ay) & (ax >= az)
    is_y = ~is_x & (ay >= az)
    is_z = ~is_x & ~is_y
    positive = torch.where(is_x, x, torch.where(is_y, y, z)) > 0
    # On the faces -x and +y the right-hand direction of somebody who looks at the face is against the axis.
    mirror = torch.where(is_x != positive, torch.where(is_z, 1.0, -1.0), 1.0)
    flat_u = torch.where(is_x, y, x) * mirror
    flat_v = torch.where(is_z, y, z)
    flat_face = torch.where(is_x, 0, torch.where(is_y, 2, 4)) + positive.long()
    sign = torch.where(positive, 1.0, -1.0)

    cap = (shape == 1) & (az > (x.square() + y.square()).sqrt())
    round_ = (shape > 0) & ~cap
    height = torch.where(shape == 2, torch.asin(z.clamp(-1.0, 1.0)) * (2 / math.pi), z)
    u = torch.where(round_, torch.atan2(y, x) / math.pi, torch.where(cap, x, flat_u))
    v = torch.where(round_, height, torch.where(cap, y, flat_v))
    face = torch.where(round_, 0, torch.where(cap, 4 + (z > 0).long(), flat_face))
    flat = shape == 0
    outward = (
        torch.where(flat, torch.where(is_x, sign, 0.0), torch.where(cap, 0.0, x)),
        torch.where(flat, torch.where(is_y, sign, 0.0), torch.where(cap, 0.0, y)),
        torch.where(flat, torch.where(is_z, sign, 0.0), torch.where(cap, z.sign(), torch.where(shape == 2, z, 0.0))),
    )
    return face, (u * 0.5 + 0.5, v * 0.5 + 0.5), outward


def from_chart(shape: torch.Tensor, face: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Points (3, N) on unit shapes at ``uv`` (2, N) of ``face`` (N,); the inverse of ``to_chart``.

    Faces that a shape does not have give some point on the shape.
    """
    u, v = uv * 2 - 1
    sign = torch.where(face % 2 == 1, 1.0, -1.0)
    axis = face // 2
    mirror = torch.where((face == 0) | (face == 3), -1.0, 1.0)
    box = torch.stack(
        [
            torch.where(axis == 0, sign, u * mirror),
            torch.where(axis == 1, sign, torch.where(axis == 0, u * mirror, v)),
            torch.where(axis == 2, sign, v),
        ]
    )
    cos, sin = torch.cos(u * math.pi), torch.sin(u * math.pi)
    shrink = 1.0 / torch.sqrt(u.square() + v.square()).clamp(min=1.0)  # a cap is the disc within its square
    cap = torch.stack([u * shrink, v * shrink, sign])
    mantle = torch.stack([cos, sin, v])
    latitude = v * (math.pi / 2)
    ball = torch.stack([cos * latitude.cos(), sin * latitude.cos(), latitude.sin()])
    cylinder = torch.where(face >= 4, cap, mantle)
    return torch.where(shape == 0, box, torch.where(shape == 1, cylinder, ball))


def chart_size(shape: torch.Tensor, face: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
    """Extent (2, N) in metres of u and v on ``face`` (N,) of solids with ``half`` sizes (3, N)."""
    return torch.stack(chart_extent(shape, face, *half))


def chart_extent(shape: torch.Tensor, face: torch.Tensor, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> Pair:
    """``chart_size`` of half sizes given by coordinate, element by element."""
    is_x, is_z = face < 2, face >= 4
    flat = (shape == 0) | ((shape == 1) & is_z)
    around = math.pi * torch.maximum(x, y)
    along = torch.where(shape == 2, around, 2 * z)
    return (
        torch.where(flat, 2 * torch.where(is_x, y, x), 2 * around),
        torch.where(flat, 2 * torch.where(is_z, y, z), along),
    )
