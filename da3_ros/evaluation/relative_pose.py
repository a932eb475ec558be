"""Relative camera poses as the Depth Anything 3 benchmark scores them: errors of all pairs of views, and AUC."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from da3_ros.errors import InputError
from da3_ros.geometry.se3 import invert

AUC_THRESHOLDS_DEG = (3, 5, 15, 30)
BENCHMARK_VIEWS = 100
_BENCHMARK_SEED = 42


@dataclass(frozen=True)
class RelativePoseErrors:
    """Errors of the M = N (N - 1) / 2 pairs of views, (M,) degrees each.

    ``rotation``: 0 to 180. ``translation``: between the directions, 0 to 90, since a direction and its opposite are
    one; 90 where one of the two views' baselines is zero.
    """

    rotation: np.ndarray
    translation: np.ndarray

    @staticmethod
    def joined(parts: Sequence[RelativePoseErrors]) -> RelativePoseErrors:
        """The pairs of several scenes as if they were one."""
        rotation, translation = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("rotation", "translation")
        )
        return RelativePoseErrors(rotation, translation)

    def auc(self, threshold_deg: int) -> float:
        """Mean over k = 1 ... ``threshold_deg`` of the share of pairs whose larger error is below k degrees.

        The benchmark's histogram closes its last bin, so at k = ``threshold_deg`` an error of exactly that counts.
        """
        worst = np.maximum(self.rotation, self.translation)
        counts, _ = np.histogram(worst, bins=np.arange(threshold_deg + 1))
        return float(np.mean(np.cumsum(counts / len(worst))))


def relative_pose_errors(T_cam_world_predicted: np.ndarray, T_cam_world_true: np.ndarray) -> RelativePoseErrors:
    """Errors of all pairs i < j of views. Both (N, 4, 4) world to camera, N >= 2, each in a world and unit of its own.

    As the benchmark has it: poses E are brought to the first view, E_i <- E_i E_0^-1, and the relative pose of a pair
    is E_i^-1 E_j. Raises InputError for other shapes and for poses that are not finite.
    """
    predicted, true = (np.asarray(T, dtype=np.float64) for T in (T_cam_world_predicted, T_cam_world_true))
    if predicted.shape != true.shape or predicted.shape[1:] != (4, 4) or len(predicted) < 2:
        raise InputError(
            f"poses of shapes {predicted.shape} and {true.shape} make no pairs: give (N, 4, 4) each, of the same "
            "N >= 2 views"
        )
    if not (np.isfinite(predicted).all() and np.isfinite(true).all()):
        raise InputError("a pose is not finite: leave views without a pose out of both")
    predicted, true = predicted @ invert(predicted[0]), true @ invert(true[0])
    rotation, translation = [], []
    for first in range(len(true) - 1):  # all pairs at once would not fit into memory with thousands of views
        a, b = (invert(T[first]) @ T[first + 1 :] for T in (predicted, true))
        rotation.append(_rotation_angles(np.swapaxes(a[:, :3, :3], -1, -2) @ b[:, :3, :3]))
        translation.append(_direction_angles(a[:, :3, 3], b[:, :3, 3]))
    return RelativePoseErrors(np.degrees(np.concatenate(rotation)), np.degrees(np.concatenate(translation)))


def pose_auc(errors: RelativePoseErrors, thresholds_deg: Sequence[int] = AUC_THRESHOLDS_DEG) -> dict[int, float]:
    """AUC (0 to 1) by threshold in degrees."""
    return {threshold: errors.auc(threshold) for threshold in thresholds_deg}


def benchmark_views(count: int, most: int = BENCHMARK_VIEWS) -> list[int]:
    """Which of ``count`` views the benchmark takes: all, or ``most`` of them by a seeded shuffle, in order."""
    indices = list(range(count))
    if count > most:
        random.Random(_BENCHMARK_SEED).shuffle(indices)
    return sorted(indices[:most])


def _rotation_angles(R: np.ndarray) -> np.ndarray:
    """Angles (n,) in radians of rotations (n, 3, 3); atan2, as arccos alone loses small angles."""
    axis = np.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], axis=-1)
    return np.arctan2(np.linalg.norm(axis, axis=-1), np.trace(R, axis1=1, axis2=2) - 1.0)


def _direction_angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles (n,) in radians, 0 to pi / 2, between the lines along (n, 3) and (n, 3); pi / 2 with a zero vector."""
    length = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    angle = np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.abs((a * b).sum(axis=-1)))
    return np.where(length > 0.0, angle, np.pi / 2)
