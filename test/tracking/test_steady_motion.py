"""Windows that place their newest views wrongly do not make odom jump, and a robot that turns or stops is followed."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
import window_simulation as sim

from da3_ros.config import from_flat
from da3_ros.evaluation import simulated_drives
from da3_ros.evaluation.simulated_drives import Drive, Scenario
from da3_ros.geometry.se3 import T_from, invert
from da3_ros.pipeline import tracking_settings
from da3_ros.tracking import ScaleFilter, TrackingSettings, WindowTracking
from da3_ros.tracking.steady_motion import _ERRORS as ERRORS
from da3_ros.tracking.steady_motion import UNKNOWN, MotionNoise, Pace, at_pace, weigh
from da3_ros.tracking.tracker import Tracker

ROUGH = sim.Noise(depth=0.05, rotation_rad=0.01, translation=0.05)
STEP = T_from(sim.yaw(0.05), np.array([0.1, 0.02, 0.0]))


def weighed(
    body, last, motion=STEP, pace=1.0, growth=1.0, noise=((0.0, 0.0), (0.0, 0.0)), free=0.0, usable=1.0, went=None
):
    rest = (float(went is not None), pace, growth, noise, free, usable)
    numbers = (torch.tensor(value, dtype=torch.float64) for value in rest)
    poses = (torch.from_numpy(np.asarray(T)) for T in (body, last, motion, np.eye(4) if went is None else went))
    return [tensor.numpy() for tensor in weigh(*poses, *numbers)]


def jumps_of(drive, start=10):
    """Differences between steps of odom and the true ones, after the first ``start``, metres."""
    steps = [
        (np.diff(T[start:, :3, 3], axis=0)[:, None] @ T[start:-1, :3, :3])[:, 0] for T in (drive.estimated, drive.true)
    ]
    return np.linalg.norm(steps[0] - steps[1], axis=1)


def test_where_windows_are_off_by_as_much_as_the_robot_moves_steps_are_near_the_true_ones(monkeypatch):
    scenario = Scenario("", sim.circle(40), sim.FRONT, "metric_model", noise=ROUGH)
    steady = Drive(scenario)
    monkeypatch.setattr(WindowTracking, "_motion_noise", lambda self: UNKNOWN)
    as_windows_have_it = Drive(scenario)
    jumps, without = jumps_of(steady), jumps_of(as_windows_have_it)
    assert jumps.max() < 0.95 * without.max()
    assert np.median(jumps) < 0.85 * np.median(without)
    assert steady.position_error < 1.1 * as_windows_have_it.position_error


def test_keyframes_do_not_hang_on_what_is_told(monkeypatch):
    scenario = Scenario("", sim.circle(30), sim.FRONT, "metric_model", noise=ROUGH)
    told = Drive(scenario).steps
    monkeypatch.setattr(WindowTracking, "_motion_noise", lambda self: UNKNOWN)
    for one, other in zip(told, Drive(scenario).steps, strict=True):
        assert (one.keyframe, [view.stamp_ns for view in one.views]) == (
            other.keyframe, [view.stamp_ns for view in other.views],
        )  # fmt: skip


def test_where_windows_agree_exactly_a_sudden_stop_is_followed():
    drive = Drive(Scenario("", sim.stop_and_go(24), sim.STEREO))
    assert drive.largest_jump < 0.001


def test_all_of_an_innovation_is_taken_in_where_views_have_no_errors():
    body = T_from(sim.yaw(0.4), np.array([1.0, -2.0, 0.3]))
    found, ahead, innovation = weighed(body, np.eye(4))
    np.testing.assert_allclose(found, body, atol=1e-12)
    np.testing.assert_allclose(ahead, body, atol=1e-12)
    np.testing.assert_allclose(innovation[1], np.square(body[:3, 3] - STEP[:3, 3]).mean(), rtol=1e-9)
    assert innovation[0] == pytest.approx(0.35**2 / 3, rel=0.02)


def test_an_innovation_that_is_errors_of_views_is_mostly_left_out():
    body = STEP @ T_from(sim.yaw(0.1), np.array([0.0, 0.1, 0.0]))
    found, ahead, _ = weighed(body, np.eye(4), noise=((0.0099, 0.0099), (0.01, 0.01)))
    left = invert(STEP) @ found
    assert 0 < left[1, 3] < 0.02 and 0 < left[1, 0] < 0.02
    assert 0 < (invert(STEP) @ ahead)[1, 3] < 0.1 * left[1, 3]  # speed follows more slowly than place
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-6)


def test_nothing_is_weighed_where_nothing_is_known_or_predicted():
    body = T_from(sim.yaw(0.4), np.array([1.0, -2.0, 0.3]))
    half = ((0.01, 0.01), (0.02, 0.02))
    for more in ({"noise": UNKNOWN}, {"noise": half, "free": 1.0}):
        np.testing.assert_allclose(weighed(body, np.eye(4), **more)[0], body, atol=1e-12)
    assert np.abs(weighed(STEP, np.eye(4), np.eye(4), noise=half)[0] - STEP).max() > 0.01


def test_where_the_window_says_nothing_the_body_goes_on_as_it_did():
    body, last = T_from(sim.yaw(0.4), np.array([1.0, -2.0, 0.3])), T_from(sim.yaw(1.0), np.array([3.0, 1.0, 0.0]))
    found, ahead, _ = weighed(body, last, usable=0.0)
    np.testing.assert_allclose(found, last @ STEP, atol=1e-9)
    np.testing.assert_allclose(ahead, last @ STEP, atol=1e-9)


def test_a_step_that_took_twice_as_long_is_expected_to_lead_twice_as_far():
    straight = T_from(np.eye(3), np.array([0.1, 0.0, 0.0]))
    for growth in (1.0, 3.0):  # and in the unit that lengths have now
        _, _, innovation = weighed(
            T_from(np.eye(3), np.array([0.2 * growth, 0.0, 0.0])), np.eye(4), straight, pace=2.0, growth=growth
        )
        np.testing.assert_allclose(innovation, 0.0, atol=1e-20)


def test_the_pace_is_that_of_the_bodys_steps():
    pace = Pace()
    steps = [(0, True, False), (100, True, True), (200, True, True), (400, True, True), (500, True, True)]
    assert [pace.step(*one) for one in steps] == [(1.0, False), (1.0, False), (1.0, True), (2.0, True), (0.5, True)]
    # While there is no body its motion is not known, nor just after; then over the whole gap.
    gap = [(600, False, True), (800, True, True), (900, True, True)]
    assert [pace.step(*one) for one in gap] == [(1.0, False), (1.0, False), (pytest.approx(1 / 3), True)]
    # Of a window that does not hang on the last one the motion says nothing, and the next step begins anew.
    assert [pace.step(*one)[1] for one in [(1000, True, False), (1100, True, True), (1200, True, True)]] == [
        False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("errors", [0.004, 0.0098, 0.02])
def test_a_prediction_counts_the_less_the_more_time_has_passed(errors):
    """From what a step of the usual length leaves out, for one that takes ten times as long."""
    noise, body = np.array([[errors] * 2, [0.01] * 2]), T_from(np.eye(3), np.array([0.0, 0.1, 0.0]))
    left = []
    for pace in (0.5, 1.0, 2.0, 10.0):
        told = weighed(body, np.eye(4), np.eye(4), pace=pace, noise=at_pace(noise, pace)[0])[0]
        left.append(1 - told[1, 3] / 0.1)
    assert left[1] == pytest.approx(min(errors / 0.01, 0.9))
    assert left[0] == left[1] > left[2] > left[3]  # 0.5: the one after a gap
    assert left[3] < 0.2
    np.testing.assert_array_equal(at_pace(noise, 1.0)[0], noise)


def test_where_nothing_is_known_or_no_time_has_passed_noise_is_a_number():
    for noise in (UNKNOWN, np.zeros((2, 2)), np.full((2, 2), 0.01)):
        for pace in (0.0, 0.5, 1.0, 100.0):
            found, larger = at_pace(noise, pace)
            assert not np.isnan(found).any() and np.isfinite(larger).all() and (larger > 0).all()


def gap_of_a_second(way, at):
    """Windows of ``way`` before whose step ``at`` a second has passed, instead of a tenth."""
    for window in sim.windows(way, sim.FRONT):
        late = [view.stamp_ns >= 10**9 + at * 10**8 for view in window.views]
        stamps = [view.stamp_ns + 900_000_000 * after for view, after in zip(window.views, late, strict=True)]
        views = [replace(view, stamp_ns=stamp) for view, stamp in zip(window.views, stamps, strict=True)]
        yield replace(window, views=tuple(views))


def test_after_a_gap_the_robot_is_where_it_is_seen():
    """It has stopped meanwhile."""
    tracker, way = Tracker(ScaleFilter(5.0, 5), torch.device("cpu"), 4), sim.straight(8)
    way[7] = way[6]
    noise = np.array([[0.7] * 2, [1.0] * 2])  # an innovation is errors of views for the most part
    for number, window in enumerate(gap_of_a_second(way, 7)):
        metres = torch.tensor([window.metres_per_unit, 1e-3 * window.metres_per_unit])
        known = noise if number > 5 else UNKNOWN
        found = sim.step(tracker, window, sim.FRONT, metres=metres, noise=known)
    told, true = found.T_odom_base.numpy()[:3, 3], (invert(way[0]) @ way[7])[:3, 3]
    assert found.predicted
    assert np.linalg.norm(told - true) < 0.05  # 0.5 m were predicted


def test_what_a_gap_adds_to_an_innovation_is_not_learnt_as_usual(monkeypatch):
    learnt, learn = [], MotionNoise.learn

    def spy(self, angle, distance, counted, innovation):
        learnt.append(innovation)
        learn(self, angle, distance, counted, innovation)

    monkeypatch.setattr(MotionNoise, "learn", spy)
    monkeypatch.setattr(simulated_drives.sim, "windows", lambda way, *_: gap_of_a_second(way, 9))
    way = sim.straight(10)
    way[9] = way[8]
    steps = Drive(Scenario("", way, sim.FRONT, "metric_model")).steps
    np.testing.assert_allclose(learnt[9][1], steps[9].report.innovation[1] / 100, rtol=0.2)


def test_what_views_are_off_is_learnt_as_it_is_whatever_they_counted():
    rng = np.random.default_rng(0)
    for counted in (np.ones(3), np.array([1.0, 0.5, 0.2, 0.1, 0.1])):
        noise = MotionNoise()
        for _ in range(400):
            turn, shift = (rng.normal(size=(len(counted), 3)) * sigma for sigma in (0.01, 0.2))
            off = (np.linalg.norm(each - counted @ each / counted.sum(), axis=1) for each in (turn, shift))
            noise.learn(*off, counted, np.array([0.04, 0.09]))
        errors, innovations = noise.value
        # In the share of errors that counts here.
        assert errors[0] / errors[1] == pytest.approx(1e-4 / 0.04, rel=0.4)
        assert errors[1] == pytest.approx(ERRORS * 0.04, rel=0.25)
        np.testing.assert_allclose(innovations, [0.04, 0.09])


def test_one_wrong_window_does_not_show_how_the_robot_moves():
    noise, nothing = MotionNoise(), np.zeros(4)
    for _ in range(20):
        noise.learn(nothing, nothing, np.ones(4), np.array([1e-4, 1e-4]))
    before = noise.value
    noise.learn(nothing, nothing, np.zeros(4), np.full(2, np.nan))
    np.testing.assert_array_equal(noise.value, before)
    noise.learn(nothing, nothing, np.ones(4), np.array([1.0, 1.0]))
    assert (noise.value[1] < 2e-4).all()
    noise.enlarge(10.0)
    assert noise.value[1, 1] == pytest.approx(100 * noise.value[1, 0])


def test_cameras_stay_where_they_are_on_the_robot():
    noise = sim.Noise(rotation_rad=0.002, translation=0.005)
    for step in Drive(Scenario("", sim.circle(12), sim.STEREO, noise=noise)).steps:
        for view in step.newest:
            np.testing.assert_allclose(step.T_odom_base @ sim.STEREO[view.camera], view.T_odom_cam, atol=1e-6)


def test_the_first_motion_after_standing_exactly_still_is_learnt():
    noise, errors = MotionNoise(), np.full(4, 0.05)
    for _ in range(20):
        noise.learn(np.zeros(4), np.zeros(4), np.ones(4), np.zeros(2))
    for _ in range(60):
        noise.learn(errors, errors, np.ones(4), np.full(2, 0.01))
    assert noise.value[1] == pytest.approx(0.01, rel=0.1)


def test_a_window_that_shares_nothing_begins_where_odom_was(monkeypatch):
    step, seen = Tracker.step, []

    def forgetful(self, *given, **named):
        seen.append(1)
        if len(seen) == 20:
            self._windows = {}
        return step(self, *given, **named)

    monkeypatch.setattr(Tracker, "step", forgetful)
    steps = Drive(Scenario("", sim.circle(24), sim.FRONT, "metric_model", noise=ROUGH)).steps
    assert steps[19].status == "lost"
    assert np.linalg.norm(steps[18].report.T_told_kept[:3, 3]) > 1e-3
    np.testing.assert_allclose(steps[19].T_odom_base, steps[18].T_odom_base, atol=1e-5)


def test_nothing_is_weighed_where_the_robot_says_itself_where_it_is(monkeypatch):
    """Which sets are keyframes then goes by its poses."""
    flat = {"cameras": ("left",), "frames.publish_tf": False}
    assert not tracking_settings(from_flat(flat)).steadies
    monkeypatch.setattr(simulated_drives, "TrackingSettings", functools.partial(TrackingSettings, steadies=False))
    for step in Drive(Scenario("", sim.circle(20), sim.FRONT, "metric_model", noise=ROUGH)).steps:
        np.testing.assert_allclose(step.report.T_told_kept, np.eye(4), atol=1e-9)
