"""Training samples from seeds: scenes of all kinds, cameras that move through them, pictures with exact depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from da3_ros.training.batch import SceneBatch
from da3_ros.training.scenes.atlas import Atlas, make_atlas
from da3_ros.training.worlds.camera_noise import degraded
from da3_ros.training.worlds.captured import Captured
from da3_ros.training.worlds.draws import Draws, constant
from da3_ros.training.worlds.image_textures import picture_patterns
from da3_ros.training.worlds.indoors import desks, rooms
from da3_ros.training.worlds.motion import ways
from da3_ros.training.worlds.outdoors import outdoors
from da3_ros.training.worlds.patterns import WORLD_PATTERNS
from da3_ros.training.worlds.products import rotated
from da3_ros.training.worlds.rendering import render
from da3_ros.training.worlds.solids import Worlds
from da3_ros.training.worlds.tables import ViewTables, make_tables

COUNTS = (80, 32, 28)  # boxes, cylinders, ellipsoids of a scene, present or not
MAX_DEPTH_M = 150.0
_SHARES = (0.42, 0.20)  # of rooms, of desks; the rest is outdoors
_CLEARANCE_M = (0.15, 0.10, 0.5)  # between a camera and a solid, by kind
_DRAWS = 8000
_MOST_CAMERAS = 6


@dataclass(frozen=True)
class Prepared:
    """B samples of N views: tables of the B N views, ``K`` (B, N, 3, 3) and ``T_cam_world`` (B, N, 4, 4)."""

    tables: ViewTables
    K: Tensor
    T_cam_world: Tensor


class SceneSource:
    """Makes samples on ``device``. The same seed gives the same sample there, in whatever batch it is.

    On CUDA the making of scenes is captured as a graph when a shape is seen first, and the shading compiled
    (``compiled``), which takes half a minute.

    ``textures``: pictures that some surfaces show, beside drawn patterns (``image_textures.picture_patterns``, also for
    the errors that it raises); with other ones, or none, a seed gives another sample. Held-out scenes have none.
    """

    def __init__(
        self, device: torch.device | str, compiled: bool | None = None, texture_size: int = 256, textures: str = ""
    ):
        self.device = torch.device(device)
        self.compiled = self.device.type == "cuda" if compiled is None else compiled
        # Drawn on the CPU, so that all devices show the same textures.
        patterns = {**WORLD_PATTERNS, **(picture_patterns(textures) if textures else {})}
        self.atlas = make_atlas(torch.Generator().manual_seed(0), texture_size, 4, patterns).to(self.device)
        self._captured: dict[tuple, Captured[Prepared]] = {}

    def __call__(self, seeds: Tensor, views: int, size: tuple[int, int]) -> SceneBatch:
        """The samples of ``seeds`` (B,) int64: ``views`` pictures of ``size`` (H, W) each, by rigs of any number."""
        rigs = sorted({1, 2, 3, 4, views} if views <= _MOST_CAMERAS else {1, 2, 3, 4})
        return self._batch(seeds, tuple((views // rig, rig) for rig in rigs if views % rig == 0), size)

    def sequence(self, seeds: Tensor, steps: int, cameras: int, size: tuple[int, int]) -> SceneBatch:
        """As a call; all of ``steps`` moments of a rig of ``cameras``, views ordered by moment."""
        return self._batch(seeds, ((steps, cameras),), size)

    @torch.no_grad()
    def _batch(self, seeds: Tensor, layouts: tuple[tuple[int, int], ...], size: tuple[int, int]) -> SceneBatch:
        seeds = seeds.to(self.device)
        made = self._prepare(seeds, layouts, size)
        shape = made.K.shape[:2]  # B, N
        views = render(made.tables, self.atlas, size, self.compiled)
        images = degraded(views.colour.unflatten(0, shape), seeds, self.compiled)
        depth, sky = views.depth.clamp(max=MAX_DEPTH_M).unflatten(0, shape), views.sky.unflatten(0, shape)
        valid = ~sky & (depth < MAX_DEPTH_M)
        return SceneBatch(images, depth, valid, sky, made.K.clone(), made.T_cam_world.clone())

    def _prepare(self, seeds: Tensor, layouts: tuple[tuple[int, int], ...], size: tuple[int, int]) -> Prepared:
        def make(seeds: Tensor) -> Prepared:
            return prepare(seeds, self.atlas, layouts, size)

        if self.device.type != "cuda":
            return make(seeds)
        key = (len(seeds), layouts, size)
        if key not in self._captured:
            self._captured[key] = Captured(make, seeds)
        return self._captured[key](seeds)


def prepare(seeds: Tensor, atlas: Atlas, layouts: tuple[tuple[int, int], ...], size: tuple[int, int]) -> Prepared:
    """The scenes of ``seeds`` and cameras in them; each sample's are one of ``layouts`` (steps, cameras)."""
    draws = Draws(seeds, _DRAWS)
    worlds, kind = make_worlds(draws, atlas)
    moved = [ways(draws, kind, worlds.room_half, steps, cameras) for steps, cameras in layouts]
    choice = (draws.unit() * len(layouts)).long()
    T_world_cam = torch.stack([way.T_world_cam.flatten(1, 2) for way in moved], 1)  # (B, layouts, N, 4, 4)
    T_world_cam = T_world_cam[torch.arange(len(seeds), device=seeds.device), choice]
    worlds = _cleared(worlds, T_world_cam[..., :3, 3], constant(_CLEARANCE_M, seeds.device)[kind])
    fov = moved[0].fov
    K = intrinsics(fov, size)
    tables = make_tables(worlds, T_world_cam, K, fov, min(size) / max(size))
    N = T_world_cam.shape[1]
    return Prepared(tables, K.unsqueeze(1).expand(-1, N, -1, -1), _inverse(T_world_cam))


def make_worlds(draws: Draws, atlas: Atlas) -> tuple[Worlds, Tensor]:
    """Scenes of all kinds, and each one's kind (B,): 0 room, 1 desk, 2 outdoors."""
    drawn = draws.unit()
    kind = (drawn >= _SHARES[0]).long() + (drawn >= sum(_SHARES)).long()
    room, desk, open_ = (make(draws, atlas, COUNTS) for make in (rooms, desks, outdoors))
    return room.chosen(kind == 0, desk.chosen(kind == 1, open_)), kind


def intrinsics(fov: Tensor, size: tuple[int, int]) -> Tensor:
    """K (B, 3, 3) in pixels from the corner, square pixels, centred; ``fov`` (B,) radians along the longer side."""
    H, W = size
    focal = max(H, W) / 2 / (fov / 2).tan()
    K = torch.zeros(len(fov), 3, 3, device=fov.device)
    K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = focal, focal, W / 2, H / 2, 1.0
    return K


def _cleared(worlds: Worlds, eyes: Tensor, clearance: Tensor) -> Worlds:
    """Without the solids that come nearer than ``clearance`` (B,) metres to one of the ``eyes`` (B, N, 3).

    The ground (the first box of outdoor scenes) and what lies flat on it stay: cameras are above them.
    """
    solids = worlds.solids
    offset = eyes.unsqueeze(1) - solids.centre.unsqueeze(2)  # (B, K, N, 3)
    local = rotated(solids.R_world_solid.mT.unsqueeze(2), offset).abs()
    beyond = (local - solids.half.unsqueeze(2)).clamp(min=0.0).norm(dim=-1).amin(2)
    flat = solids.half[..., 0] > 200.0
    return Worlds(
        solids.without((beyond < clearance.unsqueeze(1)) & ~flat),
        worlds.light, worlds.indoors, worlds.room_centre, worlds.room_half, worlds.room_surface,
    )  # fmt: skip


def _inverse(T: Tensor) -> Tensor:
    """Inverse of rigid transforms (..., 4, 4)."""
    R = T[..., :3, :3].mT
    out = torch.zeros_like(T)
    out[..., :3, :3], out[..., :3, 3], out[..., 3, 3] = R, -rotated(R, T[..., :3, 3]), 1.0
    return out
