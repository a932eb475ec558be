"""The covariance that odometry claims is that of its errors."""

import numpy as np
import pytest
import window_simulation as sim

from da3_ros.evaluation.simulated_drives import Drive, Scenario
from da3_ros.geometry.se3 import T_from
from da3_ros.tracking.odometry_covariance import OdometryCovariance

NOISE = sim.Noise(depth=0.05, rotation_rad=0.003, translation=0.005)


WAYS = {"circle": sim.circle(50), "straight": sim.straight(50, 0.9), "turning": sim.turning(50)}


CASES = [("circle", True), ("straight", True), ("circle", False)]
MORE = [("turning", True), ("straight", False), ("turning", False)]


@pytest.mark.parametrize(("way", "keyframes"), [*CASES, *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE)])
def test_normalised_errors_squared_are_near_their_expectation(way, keyframes):
    drives = [
        Drive(Scenario("", WAYS[way], sim.STEREO, noise=NOISE, recent=2 if keyframes else 4), seed) for seed in range(2)
    ]
    mean = np.mean([np.nanmean(drive.nees()[20:]) for drive in drives])
    assert 6 / 3 < mean < 6 * 3  # six degrees of freedom


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
