"""Light on every surface, computed once for a room: lamps with soft shadows, ambient light with occlusion."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from da3_ros.training.scenes.charts import FACES, from_chart, to_chart
from da3_ros.training.scenes.rooms import Rooms
from da3_ros.training.scenes.tracing import Hits, Rays, all_candidates, nearest

# Texels on each side of a face: of a solid, and of the room.
_SOLID_TEXELS = 8
_ROOM_TEXELS = 48
_LAMP_RAYS = 2  # along each side of each lamp
_AMBIENT_RAYS = 12
_AMBIENT_REACH_M = 1.5
_LIFT_M = 4e-3


@dataclass(frozen=True)
class Lightmap:
    """Irradiance on the charts of all solids: ``texels`` (R x texels of one room, 3)."""

    texels: torch.Tensor

    def sample(self, rooms: Rooms, hits: Hits) -> torch.Tensor:
        """Light (N, 3) at the hits, bilinear."""
        solids = rooms.centre.shape[1] - 1
        is_room = hits.solid == solids
        n = torch.where(is_room, _ROOM_TEXELS, _SOLID_TEXELS)
        per_room = len(self.texels) // len(rooms.centre)
        start = hits.room * per_room + hits.solid * (FACES * _SOLID_TEXELS**2) + hits.face * n * n
        position = (hits.uv * n - 0.5).clamp(min=0.0)
        position = torch.minimum(position, n - 1.001)
        corner = position.floor()
        x1, y1 = position - corner
        column, line = corner.long()
        first = start + line * n + column
        rows = torch.stack([first, first + 1, first + n, first + n + 1], -1)
        low = 1.0 - y1
        weights = torch.stack([low - x1 * low, x1 * low, y1 - x1 * y1, x1 * y1], -1)
        return F.embedding_bag(rows, self.texels, per_sample_weights=weights, mode="sum")


def bake(rooms: Rooms, generator: torch.Generator) -> Lightmap:
    """Compute the light map of every room, scaled so that the middle brightness of each room is the same."""
    P = rooms.centre.shape[1]
    solids = _face_texels(rooms, torch.arange(P - 1, device=rooms.device), _SOLID_TEXELS, generator)
    shell = _face_texels(rooms, torch.tensor([P - 1], device=rooms.device), _ROOM_TEXELS, generator)
    light = torch.cat([solids, shell], 1)  # (R, texels, 3)
    exposure = 0.5 / light[:, solids.shape[1] :].mean(-1).median(1).values
    return Lightmap((light * exposure[:, None, None]).reshape(-1, 3))


def _face_texels(rooms: Rooms, which: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Light (R, len(which) * 6 * n * n, 3) on n x n texels of every face of the solids ``which``."""
    R, P = rooms.centre.shape[:2]
    cells = torch.arange(n, device=rooms.device)
    grid = torch.meshgrid(which, torch.arange(FACES, device=rooms.device), cells, cells, indexing="ij")
    solid, face, line, column = (index.reshape(-1) for index in grid)
    shape = rooms.shape_of()[solid]
    point = from_chart(shape, face, (torch.stack([column, line]) + 0.5) / n)  # (3, T)
    outward = to_chart(shape, point)[2]
    half, turn = rooms.half[:, solid], rooms.R_world_solid[:, solid]  # (R, T, 3), (R, T, 3, 3)
    normal = (turn @ (outward.T / half.clamp(min=1e-6)).unsqueeze(-1))[..., 0]
    normal = F.normalize(normal, dim=-1) * torch.where(solid == P - 1, -1.0, 1.0).unsqueeze(-1)
    place = rooms.centre[:, solid] + (turn @ (half * point.T).unsqueeze(-1))[..., 0] + _LIFT_M * normal
    room = torch.arange(R, device=rooms.device).unsqueeze(1).expand(R, len(solid))
    light = _light_at(rooms, room.reshape(-1), place.reshape(-1, 3), normal.reshape(-1, 3), generator)
    faces = light.view(-1, n, n, 3).permute(0, 3, 1, 2)
    # Few rays make noise: average each texel with its neighbours on the same face.
    smooth = F.avg_pool2d(F.pad(faces, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return smooth.permute(0, 2, 3, 1).reshape(R, -1, 3)


def _light_at(
    rooms: Rooms, room: torch.Tensor, place: torch.Tensor, normal: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Light (T, 3) at ``place`` (T, 3) with ``normal`` (T, 3)."""
    chunk = 256 if place.device.type == "cpu" else 1 << 16
    parts = [
        _lamps(rooms, *part, generator) + _ambient(rooms, *part, generator)
        for part in zip(room.split(chunk), place.split(chunk), normal.split(chunk), strict=True)
    ]
    return torch.cat(parts)


def _lamps(
    rooms: Rooms, room: torch.Tensor, place: torch.Tensor, normal: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Direct light: rays to jittered points of a grid on each lamp."""
    T, L = len(room), rooms.lamp_centre.shape[1]
    cells = torch.arange(_LAMP_RAYS, device=place.device)
    grid = torch.stack(torch.meshgrid(cells, cells, indexing="ij"), -1).reshape(-1, 2)
    jitter = torch.rand(T, L, len(grid), 2, generator=generator, device=place.device)
    spread = (grid + jitter) / _LAMP_RAYS * 2 - 1  # (T, L, rays, 2)
    sides = rooms.lamp_sides[room]  # (T, L, 2, 3)
    target = rooms.lamp_centre[room].unsqueeze(2) + spread @ sides  # (T, L, rays, 3)
    direction = (target - place[:, None, None]).reshape(T, -1, 3)
    rays = Rays(room, place, direction.transpose(1, 2).contiguous(), all_candidates(rooms, T))
    seen = (nearest(rooms, rays)[0] > 0.999).view(T, L, -1)
    facing = torch.linalg.cross(sides[:, :, 0], sides[:, :, 1])  # its length is a quarter of the lamp's area
    direction = direction.view(T, L, -1, 3)
    at_lamp = -(direction * facing.unsqueeze(2)).sum(-1).clamp(max=0.0) * 4
    at_place = (direction * normal[:, None, None]).sum(-1).clamp(min=0.0)
    squared = direction.square().sum(-1).clamp(min=0.02)
    form = (seen * at_lamp * at_place / squared.square()).mean(-1) / math.pi  # (T, L)
    return (form.unsqueeze(-1) * rooms.lamp_power[room]).sum(1)


def _ambient(
    rooms: Rooms, room: torch.Tensor, place: torch.Tensor, normal: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Ambient light, less where something is near: the mean free way of rays into the half space."""
    T = len(room)
    ball = torch.randn(T, _AMBIENT_RAYS, 3, generator=generator, device=place.device)
    direction = normal.unsqueeze(1) + 0.98 * F.normalize(ball, dim=-1)  # cosine-weighted about the normal
    direction = F.normalize(direction, dim=-1) * _AMBIENT_REACH_M
    rays = Rays(room, place, direction.transpose(1, 2).contiguous(), all_candidates(rooms, T))
    free = nearest(rooms, rays)[0].clamp(0.0, 1.0).mean(-1, keepdim=True)
    return free * rooms.ambient[room]
