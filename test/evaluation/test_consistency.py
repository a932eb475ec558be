"""Temporal consistency on a slanted plane whose depth from every place is known."""

import numpy as np
import pytest
import torch

from da3_ros.evaluation.consistency import PosedDepth, pair_consistency, temporal_consistency
from da3_ros.geometry.camera import pixel_grid
from da3_ros.geometry.se3 import T_from

K = np.array([[50.0, 0, 31.5], [0, 50, 23.5], [0, 0, 1]])


def plane(x: float, z: float, factor: float = 1.0) -> PosedDepth:
    """The plane Z = 5 + 0.2 X in the world, seen from (x, 0, z) along the world's Z axis; depth times ``factor``."""
    u = pixel_grid(48, 64)[..., 0].double()
    depth = (5.0 + 0.2 * x - z) / (1.0 - 0.2 * (u - K[0, 2]) / K[0, 0])
    return PosedDepth(depth * factor, K, T_from(np.eye(3), np.array([x, 0.0, z])))


def test_true_depth_agrees_with_itself():
    found = pair_consistency(plane(0.0, 0.0), plane(0.3, 0.2))
    assert 0.8 < found.overlap < 0.95
    assert found.median_error < 0.005 and found.within_1 > 0.99  # the nearest pixel is up to half a pixel away
    assert abs(found.bias) < 0.003


def test_a_wrong_pose_disagrees():
    moved = plane(0.3, 0.2)
    wrong = PosedDepth(moved.depth, K, T_from(np.eye(3), np.array([0.3, 0.0, 1.2])))
    found = pair_consistency(plane(0.0, 0.0), wrong)
    assert found.median_error == pytest.approx(0.2, abs=0.03) and found.within_10 == 0.0


def test_depth_that_breathes_shows_as_scale_flicker_and_not_as_shimmer():
    still = [plane(0.0, 0.0, factor) for factor in (1.0, 1.1, 1.0, 1.1)]
    found = temporal_consistency(still)
    assert found.pairs == 3
    assert found.scale_flicker == pytest.approx(np.log(1.1))
    assert found.local_flicker == pytest.approx(0.0, abs=1e-9)
    assert found.median_error == pytest.approx((1 - 1 / 1.1 + 0.1 + 1 - 1 / 1.1) / 3)


def test_depth_that_shimmers_shows_as_local_flicker_and_not_as_scale():
    generator = torch.Generator().manual_seed(0)

    def noisy() -> PosedDepth:
        clean = plane(0.0, 0.0)
        factor = torch.exp(0.05 * torch.randn(clean.depth.shape, generator=generator, dtype=torch.float64))
        return PosedDepth(clean.depth * factor, K, clean.T_world_cam)

    found = temporal_consistency([noisy() for _ in range(4)])
    assert found.scale_flicker < 0.01
    assert found.local_flicker == pytest.approx(0.6745 * 0.05 * np.sqrt(2), rel=0.1)  # median of a normal's magnitude


def test_pixels_without_depth_and_frames_without_overlap():
    holes = plane(0.0, 0.0)
    depth = holes.depth.clone()
    depth[:, :32], depth[:, 32:40] = torch.nan, torch.inf
    found = pair_consistency(PosedDepth(depth, K, holes.T_world_cam), plane(0.0, 0.0))
    assert found.overlap == 1.0 and found.median_error < 1e-9
    away = plane(200.0, 0.0)
    assert np.isnan(pair_consistency(plane(0.0, 0.0), away).bias)
    assert temporal_consistency([plane(0.0, 0.0), away]).pairs == 0
