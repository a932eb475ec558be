"""What the pixels of a view need to know, gathered so that each looks things up in one place.

Of each shape, a view's solids begin with those that it may see, and those of its shadows with those that are there, so
that none else need be looked at. V views of n solids each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from da3_ros.training.worlds.products import product, rotated
from da3_ros.training.worlds.solids import Light, Solids, Surface, Worlds

# Columns of ``features``.
TO_UNIT, CENTRE, HALF, TILE, TINT, EMISSION, GLOSS, TEXTURE, DETAIL = 0, 9, 12, 15, 16, 19, 20, 21, 22
FEATURES = 24


@dataclass(frozen=True)
class ViewTables:
    """Everything about V views; slices are views, too.

    Rays are linear along each solid's unit axes: ``start`` (V, 3, n) + depth * (``towards`` (V, 3, 3, n) @ (x, y, 1)).
    ``seen`` (V, 3) int32: how many of each shape. ``blocker_axes`` (V, 3, 3, n) turn world directions to unit shapes,
    in which the lamp is at ``blocker_lamp`` (V, 3, n); ``blockers`` (V, 3) int32. ``features`` (V, n + 6, FEATURES):
    the solids in the order of ``start``, then the faces of the room.
    """

    counts: tuple[int, int, int]
    start: Tensor
    towards: Tensor
    seen: Tensor
    blockers: Tensor
    blocker_lamp: Tensor
    blocker_axes: Tensor
    features: Tensor
    light: Light
    indoors: Tensor  # (V,) bool
    room_centre: Tensor  # (V, 3)
    room_half: Tensor  # (V, 3)
    eye: Tensor  # (V, 3)
    R_world_cam: Tensor  # (V, 3, 3)
    K: Tensor  # (V, 3, 3)

    def __getitem__(self, part: slice) -> ViewTables:
        light = Light(*(getattr(self.light, field.name)[part] for field in fields(Light)))
        names = [field.name for field in fields(self) if field.name not in ("counts", "light")]
        return ViewTables(counts=self.counts, light=light, **{name: getattr(self, name)[part] for name in names})


def make_tables(worlds: Worlds, T_world_cam: Tensor, K: Tensor, fov: Tensor, aspect: float) -> ViewTables:
    """Tables of the views T_world_cam (B, N, 4, 4) with intrinsics ``K`` (B, 3, 3) of B scenes, V = B N.

    ``fov`` (B,) radians along the longer image side, ``aspect``: the shorter side's share of it.
    """
    B, N = T_world_cam.shape[:2]
    scene = torch.arange(B, device=K.device).unsqueeze(1).expand(B, N).reshape(-1)
    solids, light = worlds.solids, Light(*(getattr(worlds.light, field.name)[scene] for field in fields(Light)))
    eye, R = T_world_cam[..., :3, 3].flatten(0, 1), T_world_cam[..., :3, :3].flatten(0, 1)
    rows = _rows(solids)  # (B, K, FEATURES)
    diagonal = ((fov / 2).tan() * math.hypot(1.0, aspect)).atan()
    visible, order = _first(solids.counts, _in_sight(solids, scene, eye, R, diagonal[scene]))
    seen = rows[scene.unsqueeze(1), order]
    to_unit = seen[..., :CENTRE].unflatten(-1, (3, 3))  # (V, n, 3, 3)
    start = rotated(to_unit, eye.unsqueeze(1) - seen[..., CENTRE:HALF])
    start, towards = _never_met(start, product(to_unit, R.unsqueeze(1)), visible)

    exists, order = _first(solids.counts, solids.present)
    blockers = rows[torch.arange(B, device=K.device).unsqueeze(1), order]
    axes = blockers[..., :CENTRE].unflatten(-1, (3, 3))
    lamp = rotated(axes, worlds.light.lamp.unsqueeze(1) - blockers[..., CENTRE:HALF])
    lamp, axes = _never_met(lamp, axes, exists)
    return ViewTables(
        counts=solids.counts,
        seen=_numbers(solids.counts, visible),
        blockers=_numbers(solids.counts, exists)[scene],
        start=start.mT.contiguous(),
        towards=towards.permute(0, 2, 3, 1).contiguous(),
        blocker_lamp=lamp.mT.contiguous()[scene],
        blocker_axes=axes.permute(0, 2, 3, 1).contiguous()[scene],
        features=torch.cat([seen, _room_rows(worlds)[scene]], 1),
        light=light,
        indoors=worlds.indoors[scene],
        room_centre=worlds.room_centre[scene],
        room_half=worlds.room_half[scene],
        eye=eye,
        R_world_cam=R,
        K=K[scene],
    )


def _in_sight(solids: Solids, scene: Tensor, eye: Tensor, R: Tensor, diagonal: Tensor) -> Tensor:
    """Whether the bounding balls (V, K) of solids meet the cone about the picture."""
    towards = solids.centre[scene] - eye.unsqueeze(1)
    distance = towards.norm(dim=-1).clamp(min=1e-6)
    off = ((towards * R[..., 2].unsqueeze(1)).sum(-1) / distance).clamp(-1.0, 1.0).acos()
    ratio = solids.radius()[scene] / distance
    reach = torch.where(ratio >= 1.0, math.pi, ratio.clamp(max=1.0).asin())
    return (off <= diagonal.unsqueeze(1) + reach + 1e-3) & solids.present[scene]


def _first(counts: tuple[int, int, int], wanted: Tensor) -> tuple[Tensor, Tensor]:
    """``wanted`` (V, K) in the order in which, within each shape, those come first; and that order (V, K)."""
    order, begin = [], 0
    for part in wanted.split(counts, dim=1):
        order.append(part.int().sort(dim=1, descending=True, stable=True).indices + begin)
        begin += part.shape[1]
    found = torch.cat(order, 1)
    return wanted.gather(1, found), found


def _numbers(counts: tuple[int, int, int], wanted: Tensor) -> Tensor:
    """How many of each shape, (V, 3) int32."""
    return torch.stack([part.sum(1) for part in wanted.split(counts, dim=1)], 1).int()


def _never_met(start: Tensor, towards: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Rays that stay outside where ``kept`` (V, n) is not set, for views with fewer solids than others."""
    return torch.where(kept.unsqueeze(-1), start, 4.0), torch.where(kept.view(*kept.shape, 1, 1), towards, 0.0)


def _rows(solids: Solids) -> Tensor:
    """Features (B, K, FEATURES)."""
    geometry = [solids.world_to_unit().flatten(2), solids.centre, solids.half]
    return torch.cat([*geometry, _look(solids.surface)], -1)


def _room_rows(worlds: Worlds) -> Tensor:
    """Features (B, 6, FEATURES) of the room's faces."""
    half = worlds.room_half
    geometry = torch.cat([torch.diag_embed(1.0 / half).flatten(1), worlds.room_centre, half], 1)
    return torch.cat([geometry.unsqueeze(1).expand(-1, 6, -1), _look(worlds.room_surface)], -1)


def _look(surface: Surface) -> Tensor:
    """The columns from TILE on; texture numbers are exact in float32."""
    single = (surface.emission, surface.gloss, surface.texture.float(), surface.detail.float())
    columns = [surface.tile_m, *surface.tint.unbind(-1), *single]
    return torch.stack([*columns, torch.zeros_like(surface.tile_m)], -1)
