"""The covariance that odometry claims is that of its errors."""

import numpy as np
import pytest
import torch
import window_simulation as sim

from da3_ros.geometry.se3 import T_from, invert
from da3_ros.tracking import ScaleFilter, Tracker, TrackReport
from da3_ros.tracking.odometry_covariance import OdometryCovariance

NOISE = sim.Noise(depth=0.05, rotation_rad=0.003, translation=0.005)


def pose_error(T, T_true):
    R = T[:3, :3] @ T_true[:3, :3].T
    turn = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) / 2
    return np.concatenate([T[:3, 3] - T_true[:3, 3], turn])


def normalised_error_squared(seed, way):
    tracker, covariance = Tracker(ScaleFilter(5.0, 5), torch.device("cpu"), 16), OdometryCovariance()
    start = None
    for window in sim.windows(way, sim.STEREO, noise=NOISE, seed=seed):
        result = sim.step(tracker, window, sim.STEREO)
        report = TrackReport.of(result.report.numpy())
        T = result.T_odom_base.numpy()
        P = covariance.step(
            T, report.rotation_variance, report.translation_variance, report.scale_variance,
            report.view_rotation_variance / 2, report.view_translation_variance / 2,
        )  # fmt: skip
        start = T @ invert(window.T_world_base) if start is None else start
    error = pose_error(T, start @ window.T_world_base)
    return error @ np.linalg.solve(P, error)


@pytest.mark.parametrize("way", [sim.circle(30), sim.straight(30)], ids=["circle", "straight"])
def test_normalised_errors_squared_are_near_their_expectation(way):
    mean = np.mean([normalised_error_squared(seed, way) for seed in range(6)])
    assert 6 / 2.5 < mean < 6 * 2.5  # six degrees of freedom; the mean of 6 scatters by 1.4


def test_an_early_turn_moves_later_positions_sideways():
    covariance = OdometryCovariance()
    covariance.step(np.eye(4), 0.0, 0.0, 0.0)
    covariance.step(np.eye(4), 0.01, 0.0, 0.0)
    P = covariance.step(T_from(np.eye(3), np.array([10.0, 0.0, 0.0])), 0.0, 0.0, 0.0)
    np.testing.assert_allclose(np.diag(P)[:3], [0.0, 1.0, 1.0])
    assert P[1, 5] > 0  # a turn to the left goes with a shift to the left


def test_an_unsure_scale_stretches_the_way():
    covariance = OdometryCovariance()
    covariance.step(np.eye(4), 0.0, 0.0, 0.0)
    P = covariance.step(T_from(np.eye(3), np.array([0.0, 5.0, 0.0])), 0.0, 0.0, 0.02**2)
    np.testing.assert_allclose(np.sqrt(np.diag(P)), [0, 0.1, 0, 0, 0, 0])
