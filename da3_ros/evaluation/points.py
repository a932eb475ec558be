"""Point clouds against true ones: accuracy, completeness, Chamfer distance and F1, as the DA3 benchmark has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from da3_ros.errors import InputError
from da3_ros.geometry.clouds import voxel_filter


@dataclass(frozen=True)
class CloudErrors:
    """``accuracy``: mean distance of the predicted points from the nearest true one; ``completeness``: of the true
    points from the nearest predicted one; ``chamfer``: the mean of the two (the benchmark's Overall), in the clouds'
    unit. ``precision`` and ``recall``: the shares of those distances below the threshold; ``f1``: their harmonic mean.
    An empty cloud has infinite distances and nothing within the threshold.
    """

    accuracy: float
    completeness: float
    chamfer: float
    precision: float
    recall: float
    f1: float
    predicted_points: int
    true_points: int


def cloud_errors(predicted: np.ndarray, true: np.ndarray, threshold: float, voxel: float = 0.0) -> CloudErrors:
    """Errors of the points ``predicted`` (n, 3) against ``true`` (m, 3), in one frame and unit.

    ``threshold``: distance that still counts as found; ``voxel``: side of the cubes that both are thinned out with
    first (0: not). Raises InputError for points that are not finite.
    """
    from scipy.spatial import cKDTree

    clouds = []
    for cloud in (predicted, true):
        points = np.asarray(cloud, dtype=np.float64).reshape(-1, 3)
        if not np.isfinite(points).all():
            raise InputError("a point is not finite: leave invalid points out of the cloud")
        clouds.append(thin_out(points, voxel) if voxel > 0 else points)
    predicted, true = clouds
    if not len(predicted) or not len(true):
        infinite = float("inf")
        return CloudErrors(infinite, infinite, infinite, 0.0, 0.0, 0.0, len(predicted), len(true))
    to_true = cKDTree(true).query(predicted)[0]
    to_predicted = cKDTree(predicted).query(true)[0]
    accuracy, completeness = float(to_true.mean()), float(to_predicted.mean())
    precision, recall = float((to_true < threshold).mean()), float((to_predicted < threshold).mean())
    f1 = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return CloudErrors(
        accuracy, completeness, (accuracy + completeness) / 2, precision, recall, f1, len(predicted), len(true)
    )


def thin_out(points: np.ndarray, voxel: float) -> np.ndarray:
    """The mean of the points (n, 3) in each cube of side ``voxel``, (m, 3) float64.

    The cubes start half a side before the smallest coordinates, as in Open3D, with which the benchmark thins out.
    """
    if not len(points):
        return points
    corner = points.min(axis=0) - voxel / 2
    grey = torch.zeros((3, len(points)), dtype=torch.uint8)
    everywhere = torch.ones(len(points), dtype=torch.bool)
    xyz = torch.from_numpy((points - corner).astype(np.float32))
    means, _, count = voxel_filter(xyz, grey, everywhere, voxel)
    return means[:count].double().numpy() + corner
