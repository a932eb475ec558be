"""Whether errors grow with motion is learnt from what views are off."""

import numpy as np
import pytest
import window_simulation as sim

from da3_ros.evaluation.simulated_drives import Drive, Scenario
from da3_ros.tracking import Tracker
from da3_ros.tracking.pose_noise import ErrorGrowth


def learnt(growth, windows=200, views=5, scale=1e-4, counted=np.ones_like):
    """Growth that comes out of windows whose views have errors with squares of ``scale`` (1 + ``growth`` m^2)."""
    rng, found = np.random.default_rng(0), ErrorGrowth()
    for _ in range(windows):
        motion = rng.uniform(0, 0.3, views)
        error = rng.normal(size=(views, 3)) * np.sqrt(scale * (1 + growth * motion) / 3)[:, None]
        weight = counted(motion)
        residual = error - weight @ error / weight.sum()
        found.learn(motion, np.square(residual).sum(-1), weight)
    return found.value


def test_before_anything_is_known_errors_are_taken_to_grow():
    assert ErrorGrowth().value == pytest.approx(25.0)


@pytest.mark.parametrize("scale", [1e-6, 1e-2])
def test_errors_that_are_alike_in_all_views_are_found_to_be_whatever_the_views_counted(scale):
    assert learnt(0.0, scale=scale) < 3.0
    # A mean that follows the near views leaves less of their errors; that must not make far ones look worse.
    assert learnt(0.0, scale=scale, counted=lambda motion: 1 / (1 + 25 * motion)) < 3.0


def test_errors_that_grow_are_found_to():
    assert 10.0 < learnt(30.0) < 90.0
    assert learnt(30.0, scale=1e-2) == pytest.approx(learnt(30.0), rel=1e-6)


def test_windows_that_say_nothing_change_nothing():
    """Rounding; two views, of which each is off by what the other one is; none; numbers that are none."""
    motion, ones = np.array([0.0, 0.2, 0.3]), np.ones(3)
    cases = (
        (motion, 1e-12 * ones, ones), (motion, ones, np.array([1.0, 1, 0])), (motion, ones * np.nan, 0 * ones),
        (motion * np.nan, ones, ones), (motion, ones * np.nan, ones),
    )  # fmt: skip
    for case in cases:
        found = ErrorGrowth()
        found.learn(*case)
        found.learn(motion, np.array([1.0, 2, 3]), ones)
        alone = ErrorGrowth()
        alone.learn(motion, np.array([1.0, 2, 3]), ones)
        assert found.value == alone.value != 25.0


def test_one_view_that_is_far_off_does_not_decide():
    motion, found = np.array([0.01, 0.02, 0.03, 0.2]), ErrorGrowth()
    for _ in range(50):
        found.learn(motion, np.full(4, 1e-4), np.ones(4))
    before = found.value
    found.learn(motion, np.array([1e-4, 1e-4, 1e-4, 1e3]), np.ones(4))
    assert found.value < before + 3.0


def test_what_was_learnt_decides_how_views_count_in_the_next_step(monkeypatch):
    """Of windows whose errors do not grow; and in each step the covariance takes views as that step has."""
    given, said, step, learn = [], [], Tracker.step, ErrorGrowth.learn

    def watched(self, *args, **more):
        given.append(args[-2])  # before the noise of its motion
        return step(self, *args, **more)

    def learning(self, motion, off, counted):
        learn(self, motion, off, counted)
        said.append((self.value, motion, counted))

    monkeypatch.setattr(Tracker, "step", watched)
    monkeypatch.setattr(ErrorGrowth, "learn", learning)
    Drive(
        Scenario("", sim.circle(20, per_step=0.1), sim.STEREO, noise=sim.Noise(rotation_rad=0.003, translation=0.005))
    )
    assert given[0] == pytest.approx(25.0) and given[-1] < 20.0
    assert given[1:] == [value for value, _, _ in said[:-1]]
    for growth, (_, motion, counted) in zip(given, said, strict=True):
        shared = counted > 0
        np.testing.assert_allclose(counted[shared], 1 / (1 + growth * motion[shared]))
