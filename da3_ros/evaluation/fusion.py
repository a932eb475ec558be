"""Depth maps of many views to one surface: TSDF fusion with Open3D (optional), as in the DA3 benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from da3_ros.errors import InputError, UnavailableError

BENCHMARK_SAMPLES = 1_000_000
_SEED = 42
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
            f"surfaces are fused with Open3D, which cannot be imported ({error}): pip install 'da3_ros[tsdf]' "
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

    Raises UnavailableError without Open3D and InputError where the views make no surface.
    """
    o3d = load_open3d()
    integration = o3d.pipelines.integration
    volume = integration.ScalableTSDFVolume(
        voxel_length=voxel, sdf_trunc=truncation, color_type=integration.TSDFVolumeColorType.RGB8
    )
    count = 0
    for view in views:
        count += 1
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


def sample_surface(mesh: Any, samples: int = BENCHMARK_SAMPLES) -> np.ndarray:
    """``samples`` points (samples, 3) float64, uniform over the area of ``mesh``; the same ones at every call."""
    o3d = load_open3d()
    o3d.utility.random.seed(_SEED)
    return np.asarray(mesh.sample_points_uniformly(number_of_points=samples).points)
