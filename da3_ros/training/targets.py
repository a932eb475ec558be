"""What the network should answer for a batch of scenes: depth, rays, points and cameras in the network's own unit.

The world is the reference view's camera, and the unit of length is the mean distance of all known points of the
sample's views from it (arXiv 2511.10647, section 3.3), so that neither metres nor the scene's frame matter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from da3_ros.model.camera import encoding_from_cameras, invert_pose
from da3_ros.model.variants import PATCH
from da3_ros.training.batch import SceneBatch

RAY_PER_PATCH = 8               # ray maps have 8 x 8 entries for a patch of 14 x 14 pixels
_HALF_PATCH, _HALF_RAYS = PATCH // 2, RAY_PER_PATCH // 2
_LEAST_UNIT = 1e-3              # metres; a sample without known points keeps this unit


@dataclass(frozen=True)
class Targets:
    """Ground truth of B samples of N views; lengths in units of the sample, the world being the reference view.

    h x w are the patches of an image, so that ray maps are 8h x 8w.
    """

    depth: Tensor           # (B, N, H, W), 0 where not valid
    valid: Tensor           # (B, N, H, W) bool
    sky: Tensor             # (B, N, H, W) bool
    ray: Tensor             # (B, N, 8h, 8w, 6): direction of unit z-depth, then origin; as the network's ray maps
    camera: Tensor          # (B, N, 9): centre, quaternion x, y, z, w of camera to world, vertical and horizontal fov
    unit: Tensor            # (B,) metres

    def flat(self) -> Targets:
        """The same of the B x N views in a row, the samples' units as they are."""
        names = ("depth", "valid", "sky", "ray", "camera")
        return replace(self, **{name: getattr(self, name).flatten(0, 1) for name in names})

    def of(self, pictures: Tensor) -> Targets:
        """Of flat targets: maps of the ``pictures`` (M,) int64 only, cameras of all."""
        return replace(self, **{name: getattr(self, name)[pictures] for name in ("depth", "valid", "sky", "ray")})


def make_targets(batch: SceneBatch, reference: Tensor) -> Targets:
    """Targets of ``batch`` with view ``reference`` (B,) int64 of each sample at the origin."""
    T_cam_world, K = batch.T_cam_world.double(), batch.K.float()
    first = T_cam_world.take_along_dim(reference[:, None, None, None], 1)               # (B, 1, 4, 4)
    T_world_cam = invert_pose(T_cam_world[..., :3, :])
    T_ref_cam = first[..., :3, :3] @ T_world_cam                                        # (B, N, 3, 4)
    T_ref_cam = torch.cat([T_ref_cam[..., :3], T_ref_cam[..., 3:] + first[..., :3, 3:]], dim=-1).float()

    depth = torch.where(batch.valid, batch.depth.float(), 0.0)
    unit = _unit(depth, batch.valid, K, T_ref_cam)
    per_view = unit[:, None, None]
    T_ref_cam = torch.cat([T_ref_cam[..., :3], T_ref_cam[..., 3:] / per_view[..., None]], dim=-1)
    height, width = batch.size
    return Targets(
        depth=depth / per_view[..., None],
        valid=batch.valid,
        sky=batch.sky,
        ray=ray_map(K, T_ref_cam, (height, width)),
        camera=encoding_from_cameras(invert_pose(T_ref_cam), K, (height, width)),
        unit=unit,
    )


def ray_map(K: Tensor, T_ref_cam: Tensor, size: tuple[int, int]) -> Tensor:
    """Ray maps (..., 8h, 8w, 6) of cameras K (..., 3, 3) at T_ref_cam (..., 3, 4), images of ``size`` (H, W).

    A ray belongs to the centre of its cell of the map; direction = R K^-1 (u, v, 1), so that origin + depth *
    direction is the point at that z-depth.
    """
    directions = _directions(K, T_ref_cam[..., :3], size)
    return torch.cat([directions, T_ref_cam[..., None, None, :, 3].expand_as(directions)], dim=-1)


def at_rays(image: Tensor) -> Tensor:
    """Maps (..., H, W) at the pixels that hold the centres of the ray map's cells: (..., 8h, 8w).

    Cell i has its centre at (i + 0.5) 14 / 8, which is in pixels 0, 2, 4, 6, then 7, 9, ...
    """
    rows = image.unflatten(-2, (-1, _HALF_PATCH))[..., ::2, :].flatten(-3, -2)
    return rows.unflatten(-1, (-1, _HALF_PATCH))[..., ::2].flatten(-2)


def _directions(K: Tensor, R: Tensor, size: tuple[int, int]) -> Tensor:
    """Directions (..., 8h, 8w, 3) of unit z-depth through the ray map's cells, turned by R (..., 3, 3)."""
    cells = (size[0] * RAY_PER_PATCH // PATCH, size[1] * RAY_PER_PATCH // PATCH)
    v, u = ((torch.arange(n, device=K.device) + 0.5) * (PATCH / RAY_PER_PATCH) for n in cells)
    x = (u - K[..., 0, 2, None]) / K[..., 0, 0, None]                                   # (..., 8w)
    y = (v - K[..., 1, 2, None]) / K[..., 1, 1, None]                                   # (..., 8h)
    across = x[..., None] * R[..., None, :, 0] + R[..., None, :, 2]                     # (..., 8w, 3)
    down = y[..., None] * R[..., None, :, 1]                                            # (..., 8h, 3)
    return down[..., :, None, :] + across[..., None, :, :]


def _unit(depth: Tensor, valid: Tensor, K: Tensor, T_ref_cam: Tensor) -> Tensor:
    """Mean distance (B,) in metres of the known points from the reference view's centre."""
    size = (depth.shape[-2], depth.shape[-1])
    depth, valid = at_rays(depth), at_rays(valid)           # a third of all pixels: enough for a mean
    points = _directions(K, T_ref_cam[..., :3], size) * depth[..., None] + T_ref_cam[..., None, None, :, 3]
    distance = torch.where(valid, points.norm(dim=-1), 0.0).sum((1, 2, 3))
    return (distance / valid.sum((1, 2, 3)).clamp(min=1)).clamp(min=_LEAST_UNIT)
