"""Cameras from ray maps: time and error of our solver, and of the reference's where it is installed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.errors import ConfigError
from da3_ros.model.camera import invert_pose
from da3_ros.model.ray_pose import cameras_from_rays, make_ray_tables
from da3_ros.model.variants import PATCH

_NOISE, _OUTLIERS = 0.01, 0.1  # of directions with third coordinate near 1; share of pixels with any direction
_FOCAL = (1.2, 1.6)  # in half image sizes: 80 and 64 degrees
_RAYS_PER_PATCH = 8  # of the ray maps, in each direction
# Principal points as a share of half the image: in the centre, and as after a crop.
_PRINCIPALS = (0.0, 0.2)


@dataclass(frozen=True)
class RayPoseRow:
    """One number of views; times are medians in milliseconds, errors the largest of all views.

    ``off_centre``: the principal point's distance from the image centre in both directions, in half image sizes.
    Rotation in degrees, focal length in percent. None where the reference was not run.
    """

    views: int
    height: int
    width: int
    off_centre: float
    ours_ms: float
    ours_rotation_deg: float
    ours_focal_percent: float
    reference_ms: float | None = None
    reference_rotation_deg: float | None = None
    reference_focal_percent: float | None = None


@dataclass(frozen=True)
class _Rays:
    """Ray maps of one window of V views, and the cameras that they were made of."""

    ray: torch.Tensor  # (1, V, h, w, 6)
    confidence: torch.Tensor  # (1, V, h, w)
    rotation: torch.Tensor  # (V, 3, 3) camera to world
    focal: torch.Tensor  # (2,) in half image sizes


def measure_ray_pose(
    views: int, process_res: int, device: torch.device, repeats: Repeats, reference: bool
) -> list[RayPoseRow]:
    """Rows for ``views`` images of 4:3 whose longest side is ``process_res``; the same rays for both solvers.

    Both draw 100 samples of 8 pixels: ours once for each size, as in the network, the reference in each call.
    """
    if process_res % (4 * PATCH):
        raise ConfigError(f"--ray-pose measures images of 4:3: --process-res must be a multiple of {4 * PATCH}, not "
                          f"{process_res}")  # fmt: skip
    height, width = process_res * 3 // 4, process_res
    h, w = height // PATCH * _RAYS_PER_PATCH, width // PATCH * _RAYS_PER_PATCH
    tables = make_ray_tables(h, w, device)
    rows = []
    for principal in _PRINCIPALS:
        rays = _make_rays(views, h, w, principal, device)

        def ours(rays: _Rays = rays) -> tuple[torch.Tensor, torch.Tensor]:
            return cameras_from_rays(rays.ray, rays.confidence, (height, width), tables)

        extrinsics, K = ours()
        half = torch.tensor([width / 2, height / 2], device=device)
        focal = K[0].diagonal(dim1=-2, dim2=-1)[:, :2] / half
        row = RayPoseRow(
            views, height, width, principal,
            median_ms(ours, device, repeats), *_errors(rays, invert_pose(extrinsics)[0, :, :, :3], focal),
            *(_time_reference(rays, device, repeats) if reference else ()),
        )  # fmt: skip
        rows.append(row)
    return rows


def _time_reference(rays: _Rays, device: torch.device, repeats: Repeats) -> tuple[float, float, float]:
    """Milliseconds and errors of depth-anything-3."""
    from depth_anything_3.utils.ray_utils import get_extrinsic_from_camray

    h, w = rays.ray.shape[2:4]

    def solve() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # A copy, because it sets weights in what it is given.
        return get_extrinsic_from_camray(rays.ray, rays.confidence.clone(), h, w)

    started = time.perf_counter()
    pose, focal, _ = solve()
    errors = _errors(rays, pose[0, :, :3, :3], focal[0])  # waits for the device
    seconds = time.perf_counter() - started
    # It takes a full singular value decomposition of 16000 x 9 for each view; one run tells enough where that is slow.
    times = Repeats(repeats.seconds, warm_up=0, least=1) if seconds > repeats.seconds else repeats
    return median_ms(solve, device, times), *errors


def _errors(rays: _Rays, rotation: torch.Tensor, focal: torch.Tensor) -> tuple[float, float]:
    """Largest error of rotations (V, 3, 3), degrees, and of focal lengths (V, 2), percent."""
    difference = (rays.rotation.mT @ rotation - torch.eye(3, device=rotation.device)).norm(dim=(1, 2))
    angle = 2 * torch.asin((difference / math.sqrt(8)).clamp(max=1))
    return float(torch.rad2deg(angle).max()), 100 * float((focal / rays.focal - 1).abs().max())


def _make_rays(views: int, h: int, w: int, principal: float, device: torch.device) -> _Rays:
    """Noisy rays with outliers of random cameras that look the same way to within some tens of degrees."""
    generator = torch.Generator().manual_seed(0)
    tilt = 0.3 * torch.randn(views, 3, generator=generator)
    zero = torch.zeros(views)
    x, y, z = tilt.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    rotation = torch.linalg.matrix_exp(skew)
    K = torch.diag(torch.tensor([*_FOCAL, 1.0]))
    K[:2, 2] = principal
    points = make_ray_tables(h, w, torch.device("cpu")).points
    directions = points @ (rotation @ torch.linalg.inv(K)).mT  # (V, h w, 3)
    directions = directions + _NOISE * torch.randn(directions.shape, generator=generator)
    wrong = torch.rand(directions.shape[:2], generator=generator) < _OUTLIERS
    directions = torch.where(wrong[..., None], torch.randn(directions.shape, generator=generator), directions)
    centre = torch.randn(views, 1, 3, generator=generator).expand_as(directions)
    ray = torch.cat([directions, centre], dim=-1).unflatten(1, (h, w))[None]
    confidence = 1 + torch.rand(ray.shape[:-1], generator=generator)
    return _Rays(ray.to(device), confidence.to(device), rotation.to(device), torch.tensor(_FOCAL, device=device))
