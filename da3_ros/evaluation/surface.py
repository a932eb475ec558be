"""Surfaces of the estimated and of the true depth compared, by the protocol of the DA3 benchmark (unposed)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation.fusion import FusionView, fuse, load_open3d, sample_surface
from da3_ros.evaluation.points import cloud_errors
from da3_ros.evaluation.relative_pose import benchmark_views
from da3_ros.evaluation.trajectory import Trajectory, align
from da3_ros.evaluation.truth import scaled_intrinsics
from da3_ros.geometry.se3 import invert


@dataclass(frozen=True)
class Protocol:
    """Metres: ``voxel`` and ``truncation`` of the fusion, ``max_depth`` that is fused, ``threshold`` of F1, and
    ``thinning``, the voxel for the points that are compared."""

    voxel: float
    truncation: float
    max_depth: float
    threshold: float
    thinning: float


# As the benchmark has them for its data sets.
PROTOCOLS = {
    "7scenes": Protocol(4 / 512, 0.04, 1e6, 0.05, 4 / 512),
    "eth3d": Protocol(5 * 4 / 512, 0.2, 1e5, 0.25, 5 * 4 / 512),
    "scannetpp": Protocol(0.02, 0.15, 5.0, 0.05, 0.02),
}


class SurfaceScore:
    """Keeps up to 100 of ``frames`` views (those that the benchmark would take) in a temporary folder, then fuses them.

    Raises UnavailableError without Open3D.
    """

    def __init__(self, protocol: Protocol, frames: int):
        load_open3d()
        self._protocol = protocol
        self._wanted = set(benchmark_views(frames))
        self._seen = 0
        self._folder = tempfile.TemporaryDirectory(prefix="da3_ros_surface_")
        self._kept: list[tuple[Path, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(
        self,
        predicted: np.ndarray,
        true: np.ndarray,
        calibration: CameraCalibration,
        T_world_cam_predicted: np.ndarray,
        T_world_cam_true: np.ndarray,
    ) -> None:
        """The next view: both depths (H, W) at the pixels of ``true``, a pinhole image of ``calibration``."""
        number, self._seen = self._seen, self._seen + 1
        if number not in self._wanted or calibration.distortion_model != "none":
            return
        file = Path(self._folder.name) / f"{number}.npz"
        np.savez(file, predicted=np.where(np.isfinite(true), predicted, np.nan), true=true)
        K = scaled_intrinsics(calibration.K, calibration, *true.shape)
        self._kept.append((file, K, T_world_cam_predicted, T_world_cam_true))

    def summary(self) -> dict[str, Any]:
        """See CloudErrors. Raises InputError where the views determine no alignment or no surface."""
        if len(self._kept) < 3:
            raise InputError(f"{len(self._kept)} undistorted views with true depth and poses are too few for a surface")
        stamps = np.arange(len(self._kept), dtype=np.int64)
        estimate = Trajectory(stamps, np.stack([T for _, _, T, _ in self._kept]))
        truth = Trajectory(stamps, np.stack([T for _, _, _, T in self._kept]))
        similarity = align(estimate, truth, "sim3")
        aligned = invert(similarity.poses(estimate.T_world_body))
        protocol = self._protocol
        clouds = []
        for name, poses, scale in (
            ("predicted", aligned, similarity.scale),
            ("true", invert(truth.T_world_body), 1.0),
        ):
            views = self._views(name, poses, scale)
            clouds.append(sample_surface(fuse(views, protocol.voxel, protocol.truncation, protocol.max_depth)))
        errors = cloud_errors(clouds[0], clouds[1], protocol.threshold, protocol.thinning)
        self._folder.cleanup()
        return {"views": len(self._kept), "scale": similarity.scale, **asdict(errors), "protocol": asdict(protocol)}

    def _views(self, name: str, T_cam_world: np.ndarray, scale: float) -> Iterator[FusionView]:
        for (file, K, _, _), T in zip(self._kept, T_cam_world, strict=True):
            depth = np.load(file)[name]
            yield FusionView(depth * np.float32(scale), np.zeros((*depth.shape, 3), np.uint8), K, T)
