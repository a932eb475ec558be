"""Depth maps of many views to one surface: TSDF fusion with Open3D (optional), as in the DA3 benchmark."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from da3_ros.errors import InputError, UnavailableError
from da3_ros.geometry.se3 import invert, transform_points

BENCHMARK_SAMPLES = 1_000_000
_SEED = 42
_BLOCK = 16  # voxels along a side of what Open3D allocates at once
_VOXEL_BYTES = 32
_STRIDE = 4  # of the pixels around which it allocates
_BROKEN = "0.20."  # its ScalableTSDFVolume stays empty whatever is integrated (seen with 0.20.0; 0.19.0 works)


@dataclass(frozen=True)
class FusionView:
    """``depth`` (H, W) float32 z-depth in metres, NaN, Inf or 0: none; ``rgb`` (H, W, 3) uint8 of the same size;
    ``K`` (3, 3) in its pixels; ``T_cam_world`` (4, 4)."""

    depth: np.ndarray
    rgb: np.ndarray
    K: np.ndarray
    T_cam_world: np.ndarray


def load_open3d() -> Any:
    """The module open3d. Raises UnavailableError where it is not installed, or in a version that fuses nothing."""
    try:
        import open3d
    except ImportError as error:
        raise UnavailableError(
            f"surfaces are fused with Open3D, which cannot be imported ({error}): pip install 'open3d<0.20' "
            "(0.45 GB to download), or leave the measures of the fused surface out"
        ) from error
    if open3d.__version__.startswith(_BROKEN):
        raise UnavailableError(
            f"Open3D {open3d.__version__} fuses nothing: pip install 'open3d>=0.19,<0.20', or leave the measures of "
            "the fused surface out"
        )
    return open3d


def fuse(views: Iterable[FusionView], voxel: float, truncation: float, max_depth: float) -> Any:
    """The surface as an open3d.geometry.TriangleMesh. ``voxel``, ``truncation``, ``max_depth``: metres.

    Raises UnavailableError without Open3D and InputError where the views make no surface, or one of which the volume
    would take more than half of the machine's memory: poses and depth that contradict each other fill space.
    """
    o3d = load_open3d()
    integration = o3d.pipelines.integration
    volume = integration.ScalableTSDFVolume(
        voxel_length=voxel, sdf_trunc=truncation, color_type=integration.TSDFVolumeColorType.RGB8
    )
    count = 0
    blocks: set[tuple[int, int, int]] = set()
    most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    for view in views:
        count += 1
        blocks |= _blocks(view, _BLOCK * voxel, truncation, max_depth)
        if len(blocks) * _BLOCK**3 * _VOXEL_BYTES > most:
            raise InputError(
                f"the depth of {count} views is spread over so much space that a volume with voxels of {voxel:g} m "
                f"takes more than {most / 1e9:.1f} GB: do their poses and their unit of length fit the depth? Coarser "
                "voxels take less"
            )
        height, width = view.depth.shape
        depth = np.where(np.isfinite(view.depth), view.depth, 0.0).astype(np.float32)
        image = o3d.geometry.RGBDImage.create_from_color_and_depth(
            o3d.geometry.Image(np.ascontiguousarray(view.rgb)),
            o3d.geometry.Image(depth),
            depth_scale=1.0,
            depth_trunc=max_depth,
            convert_rgb_to_intensity=False,
        )
        K = view.K
        camera = o3d.camera.PinholeCameraIntrinsic(width, height, K[0, 0], K[1, 1], K[0, 2], K[1, 2])
        volume.integrate(image, camera, np.asarray(view.T_cam_world, dtype=np.float64))
    mesh = volume.extract_triangle_mesh()
    if not len(mesh.triangles):
        raise InputError(
            f"the depth of {count} views makes no surface: is any of it below {max_depth:g} m, and do the poses agree "
            f"to within the truncation of {truncation:g} m?"
        )
    return mesh


def _blocks(view: FusionView, side: float, truncation: float, max_depth: float) -> set[tuple[int, int, int]]:
    """The blocks of ``side`` metres that integrating ``view`` allocates: those within ``truncation`` of its points."""
    depth = view.depth[::_STRIDE, ::_STRIDE]
    v, u = np.nonzero(np.isfinite(depth) & (depth > 0) & (depth < max_depth))
    pixels = np.stack([u * _STRIDE, v * _STRIDE, np.ones_like(u)]).astype(np.float64)
    points = transform_points(invert(view.T_cam_world), (np.linalg.inv(view.K) @ pixels * depth[v, u]).T)
    low, high = (np.floor((points + reach) / side).astype(np.int64) for reach in (-truncation, truncation))
    steps = np.arange(1 + int(np.ceil(2 * truncation / side)))
    found: set[tuple[int, int, int]] = set()
    for offset in np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3):
        found.update(map(tuple, np.unique(np.minimum(low + offset, high), axis=0).tolist()))
    return found


def sample_surface(mesh: Any, samples: int = BENCHMARK_SAMPLES) -> np.ndarray:
    """``samples`` points (samples, 3) float64, uniform over the area of ``mesh``; the same ones at every call."""
    o3d = load_open3d()
    o3d.utility.random.seed(_SEED)
    return np.asarray(mesh.sample_points_uniformly(number_of_points=samples).points)
