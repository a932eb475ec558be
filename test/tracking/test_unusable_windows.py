"""One window whose numbers are not finite is left out, and the next ones go on as if it had not been there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import window_simulation as sim

from da3_ros.datatypes import Frame, FrameSet, WindowPrediction
from da3_ros.geometry.se3 import T_from, invert, rotation_angle
from da3_ros.tracking import ScaleFilter, Tracker, TrackingSettings, WindowTracking
from da3_ros.tracking.map_session import DynamicStep
from da3_ros.tracking.steady_motion import UNKNOWN, MotionNoise

CPU, NO_IMAGE = torch.device("cpu"), np.empty((0, 0, 3))


class Arrays:
    """On their way to the host."""

    def __init__(self, named):
        self._named = {name: tensor.numpy().copy() for name, tensor in named.items()}

    def wait(self):
        return self._named


class Drive:
    """``steps`` of a drive and where they are to be, ``true`` (n, 4, 4), the base of step ``start`` being odom.

    ``spoil``: step -> what becomes of its prediction. ``metres``: step from which on a network gives them, instead of
    the rig.
    """

    def __init__(self, way, rig, spoil, noise=None, sets=4, lag=0, metres=None, start=0, missing=None):
        sources = ("rig",) if metres is None else ("metric_model",)
        tracking = WindowTracking(TrackingSettings(sources, sets, len(rig), repeats=False), CPU)
        tracking._lag = lag  # as on CUDA, where a step is not known yet when the next one is submitted
        tracking.reset()
        tracking.set_rig(rig)
        moving, pending, self.masked, self.units = DynamicStep(0.15, CPU, "eager"), [], [], []
        windows = sim.windows(way, rig, sets, noise, 0, missing, tracking.leaving)
        for number, window in enumerate(windows):
            newest = [view for view in window.views if view.newest]
            first, stamp_ns = len(window.views) - len(newest), newest[-1].stamp_ns
            tracking.note(FrameSet(stamp_ns, tuple(Frame(v.camera, v.stamp_ns, NO_IMAGE) for v in newest)))
            prediction = WindowPrediction(
                window.views, tuple(range(first, len(window.views))), window.depth, torch.full_like(window.depth, 2.0),
                window.T_cam_world, window.K, None, sim.colours(window),
            )  # fmt: skip
            if metres is not None and number >= metres:
                scale = torch.tensor(window.metres_per_unit)
                prediction = replace(prediction, metres_per_unit=scale, metres_stddev=scale * 1e-3)
            prediction = spoil.get(number, lambda good: good)(prediction)
            tracked = tracking.place(prediction, prediction.K)
            dynamic = moving.step(stamp_ns, prediction, prediction.K, tracked)
            tracking.exclude(dynamic)
            self.units.append(window.metres_per_unit)
            self.masked.append(dynamic.double().mean().item())
            named = {
                "track_report": tracked.report, "track_depth": tracked.depth, "track_weight": tracked.weight,
                "T_odom_cam": tracked.T_odom_cam, "K": prediction.K, "T_odom_base": tracked.T_odom_base,
            }  # fmt: skip
            pending.append(tracking.submit(number, stamp_ns, prediction, tracked, Arrays(named)))
        self.steps = [one.settle() for one in pending]
        self.history = tracking._history
        self.true = invert(way[start]) @ np.stack(way)

    def off(self, number):
        """Metres and radians by which the base is from where it is to be."""
        off = invert(self.true[number]) @ self.steps[number].T_odom_base
        return np.linalg.norm(off[:3, 3]), rotation_angle(off[:3, :3])

    def statuses(self, *numbers):
        return [self.steps[number].status for number in numbers]


def poses(value, which=slice(None)):
    def spoilt(prediction):
        T = prediction.T_cam_world.clone()
        T[which] = value
        return replace(prediction, T_cam_world=T)

    return spoilt


def intrinsics(value):
    return lambda prediction: replace(prediction, K=torch.full_like(prediction.K, value))


def depth(value):
    return lambda prediction: replace(prediction, depth=torch.full_like(prediction.depth, value))


def confidence(value):
    return lambda prediction: replace(prediction, depth_conf=torch.full_like(prediction.depth_conf, value))


NAN, INF = float("nan"), float("inf")
UNUSABLE = {
    "poses NaN": poses(NAN),
    "one pose NaN": poses(NAN, -1),
    "one number infinite": poses(INF, (0, 1, 3)),
    "intrinsics NaN": intrinsics(NAN),
}
WITHOUT_DEPTH = {"depth NaN": depth(NAN), "depth infinite": depth(INF), "confidence NaN": confidence(NAN)}


def assert_finite(step):
    numbers = [step.T_odom_base, step.view_variance, step.report.innovation, step.report.T_told_kept]
    numbers += [] if step.covariance is None else [step.covariance]
    numbers += [np.array([step.report.log_scale, step.report.scale_variance, step.report.median_depth])]
    for one in [*numbers, *(view.T_odom_cam for view in step.views)]:
        assert np.isfinite(one).all()


FEW = {("one pose NaN", 1), ("intrinsics NaN", 0), ("depth NaN", 1)}
ALL = [(name, lag) for name in (*UNUSABLE, *WITHOUT_DEPTH) for lag in (0, 1)]
MARKED = [one if one in FEW else pytest.param(*one, marks=pytest.mark.slow) for one in ALL]


@pytest.mark.parametrize(("name", "lag"), MARKED)
def test_after_one_window_that_is_not_finite_all_goes_on(name, lag):
    drive = Drive(sim.circle(12), sim.STEREO, {6: {**UNUSABLE, **WITHOUT_DEPTH}[name]}, lag=lag)
    assert set(drive.statuses(*range(1, 6), *range(7, 12))) == {"tracking"}
    for number, step in enumerate(drive.steps):
        if number == 6 and name in UNUSABLE:
            continue
        assert_finite(step)
        assert step.covariance is not None
        assert drive.off(number) == (pytest.approx(0, abs=1e-4), pytest.approx(0, abs=1e-4))
        assert step.report.rejected == () and step.source == "rig"
    assert all(np.isclose(drive.steps[n].report.metres_per_unit, drive.units[n], rtol=1e-3) for n in range(7, 12))
    assert max(drive.masked) < 0.01
    assert (drive.steps[6].status == "unusable") == (name in UNUSABLE)


def test_a_window_that_is_not_finite_says_so_and_places_nothing():
    step = Drive(sim.circle(6), sim.STEREO, {5: poses(NAN, -1)}).steps[5]
    assert step.status == "unusable" and not step.report.usable
    assert step.T_odom_base is None and step.covariance is None and not step.keyframe
    assert all(np.isnan(view.T_odom_cam).all() for view in step.views)
    assert step.report.used == step.report.rejected == step.report.jumped == ()


def test_what_is_remembered_is_what_it_was():
    """But for the time that passes, and for what the body is told to be, which goes on as it did."""
    tracker, noise = Tracker(ScaleFilter(5.0, 5), CPU, 8), sim.Noise(rotation_rad=0.01, translation=0.05)
    half = np.array([[0.5, 0.5], [1.0, 1.0]])  # of each innovation half is left out
    for number, window in enumerate(sim.windows(sim.circle(8), sim.STEREO, 4, noise)):
        before = tracker._memory
        if number == 7:
            window = replace(window, T_cam_world=torch.full_like(window.T_cam_world, NAN))
        sim.step(tracker, window, sim.STEREO, noise=half)
    after, known = tracker._memory, before.windows[:-1] > 0
    known[tracker._newest] = False  # rows that the new views have now
    assert (after.windows[:-1] > 0).tolist() == known.tolist() and known.sum() == 6
    assert (before.steady - before.body).abs().max() > 1e-3
    for name in ("body", "centre", "arms", "log", "misfits"):
        torch.testing.assert_close(getattr(after, name), getattr(before, name), rtol=0, atol=1e-12)
    for name in ("poses", "depth", "weight"):
        torch.testing.assert_close(getattr(after, name)[known], getattr(before, name)[known], rtol=0, atol=1e-12)
    torch.testing.assert_close(after.steady, before.steady @ before.motion, rtol=0, atol=1e-6)


def test_nothing_is_learnt_from_it():
    noise = sim.Noise(depth=0.05, rotation_rad=0.004, translation=0.01)
    drive = Drive(sim.circle(12), sim.STEREO, {10: poses(NAN)}, noise=noise)
    before, at, after = drive.steps[9:12]
    np.testing.assert_array_equal(at.view_variance, before.view_variance)
    assert at.report.log_scale == before.report.log_scale
    added = at.report.frame_scale_variance - before.report.frame_scale_variance
    assert 0 <= added < 1e-4  # what the time adds
    assert "rig" in after.report.used
    assert after.report.scale_variance < 1.5 * before.report.scale_variance


@pytest.mark.parametrize("lag", [0, 1])
def test_of_its_variance_the_unit_inherits_what_usable_windows_say(monkeypatch, lag):
    """The share of the views that become established, by the windows that the device took for usable."""
    carry, step, said, true = ScaleFilter.carry, Tracker.step, [], []

    def carried(self, state, ratio, elapsed_s, inherited, usable):
        said.append(inherited.item())
        return carry(self, state, ratio, elapsed_s, inherited, usable)

    def stepped(self, views, *inputs, **more):
        counts = {key: self._memory.windows[row].item() for key, row in self._row.items()} if self._windows else {}
        counts = [counts.get((view.camera, view.stamp_ns), 0) for view in views]
        established = sum(count == min(2, max(counts)) for count in counts)
        true.append(established / max(1, sum(count > 0 for count in counts)))
        return step(self, views, *inputs, **more)

    monkeypatch.setattr(ScaleFilter, "carry", carried)
    monkeypatch.setattr(Tracker, "step", stepped)
    Drive(sim.circle(22), sim.STEREO, dict.fromkeys((6, 11, 12, 16, 18), poses(NAN)), sets=5, lag=lag)
    assert said == true
    assert len(set(true[8:])) > 1


def test_after_it_the_prediction_reaches_over_two_steps_and_counts_the_less():
    """The robot has stopped meanwhile; an innovation is errors of views for the most part."""
    way, noise = sim.straight(9), np.array([[0.7] * 2, [1.0] * 2])
    way[6] = way[7] = way[8] = way[5]
    told = []
    for spoilt in (False, True):
        tracker = Tracker(ScaleFilter(5.0, 5), CPU, 4)
        for number, window in enumerate(sim.windows(way, sim.FRONT)):
            metres = torch.tensor([window.metres_per_unit, 1e-3 * window.metres_per_unit])
            if number == 6 and spoilt:
                window = replace(window, T_cam_world=torch.full_like(window.T_cam_world, NAN))
            known = noise if number > 5 else UNKNOWN
            found = sim.step(tracker, window, sim.FRONT, metres=metres, noise=known)
            told.append(found.T_odom_base[0, 3].item())
    usual, after = np.array(told[:9]) - 0.25, np.array(told[9:]) - 0.25
    assert after[6] == pytest.approx(0.05, abs=1e-3)  # gone on as it did
    assert after[7] < 0.5 * 0.1  # of the two steps that it would have made
    assert usual[6] == pytest.approx(0.7 * 0.05, abs=1e-3)


def test_after_it_an_innovation_is_of_two_steps(monkeypatch):
    """What is learnt of the speed's changes is of one: they grow with the square of the time."""
    learnt, learn = {}, MotionNoise.learn

    def noted(self, angle, distance, counted, innovation):
        learnt[len(learnt)] = innovation
        learn(self, angle, distance, counted, innovation)

    monkeypatch.setattr(MotionNoise, "learn", noted)
    noise = sim.Noise(depth=0.05, rotation_rad=0.004, translation=0.01)
    drive = Drive(sim.circle(14), sim.STEREO, {10: poses(NAN)}, noise=noise)
    usable = [step for number, step in enumerate(drive.steps) if number != 10]
    assert len(learnt) == len(usable)  # nothing is learnt from it
    shares = [innovation / step.report.innovation for innovation, step in zip(learnt.values(), usable, strict=True)]
    np.testing.assert_allclose(shares[8:10], 1)
    assert (shares[10] < 0.9).all() and (shares[10] >= 0.25).all(), "of the step after it"
    np.testing.assert_allclose(shares[11:], 1)


@pytest.mark.parametrize("metres", [0, 99], ids=["metric", "own unit"])
@pytest.mark.parametrize("lag", [0, 1])
def test_odom_starts_with_the_first_window_that_is_finite(lag, metres):
    drive = Drive(sim.circle(9), sim.STEREO, {0: poses(NAN), 1: poses(NAN)}, lag=lag, metres=metres, start=2)
    there = Drive(sim.circle(9)[2:], sim.STEREO, {}, lag=lag, metres=metres)
    assert drive.statuses(0, 1, 2) == ["unusable", "unusable", "started"]
    assert not any(step.anew for step in drive.steps)
    for step, other in zip(drive.steps[2:], there.steps, strict=True):
        assert_finite(step)
        R, R_other = step.T_odom_base[:3, :3], other.T_odom_base[:3, :3]
        np.testing.assert_allclose(R, R_other, atol=1e-3)  # level, as the robot has it
        assert (step.covariance is None) == (other.covariance is None)
    if not metres:
        assert max(drive.off(number)[0] for number in range(2, 9)) < 1e-4


def test_where_nothing_else_is_shared_the_next_window_is_lost_and_says_so():
    """Of two sets the older one has left before anybody knows that the newer one is of no use."""
    drive = Drive(sim.straight(10), sim.STEREO, {6: poses(NAN)}, sets=2, lag=1)
    assert drive.statuses(5, 6, 7, 8) == ["tracking", "unusable", "lost", "tracking"]
    assert [step.covariance is None for step in drive.steps] == [number >= 6 for number in range(10)]
    for number in range(7, 10):
        assert_finite(drive.steps[number])
    moved = drive.steps[7].T_odom_base[:3, 3] - drive.steps[5].T_odom_base[:3, 3]
    assert np.linalg.norm(moved) < 0.06  # where it was, or was to be: a step is 5 cm
    known_at_once = Drive(sim.straight(10), sim.STEREO, {6: poses(NAN)}, sets=2)
    assert known_at_once.statuses(5, 6, 7, 8) == ["tracking", "unusable", "tracking", "tracking"]
    assert known_at_once.steps[-1].covariance is not None and known_at_once.off(9)[0] < 1e-4


def test_masks_do_not_go_by_what_was_seen_before_it_was_lost():
    """Where the robot came back to is not where odom has it: what stands there would seem to have moved."""
    elsewhere = T_from(sim.yaw(2.0), np.array([2.0, 1.0, 0.0]))
    way = sim.straight(4, 1.0) + [elsewhere @ T for T in sim.straight(6, 1.0)]
    drive = Drive(way, sim.STEREO, {4: poses(NAN)}, sets=2, lag=1)
    assert drive.statuses(4, 5, 6) == ["unusable", "lost", "tracking"]
    assert max(drive.masked) < 0.01


@pytest.mark.parametrize("at", [0, 2, pytest.param(7, marks=pytest.mark.slow)])
@pytest.mark.parametrize("lag", [0, 1])
def test_pictures_that_spoil_each_window_leave_at_once(lag, at):
    """Before all others have: what they showed would be lost."""
    stamp = 10**9 + at * 10**8

    def with_picture(prediction):
        return poses(NAN)(prediction) if stamp in [view.stamp_ns for view in prediction.views] else prediction

    drive = Drive(sim.circle(at + 5), sim.STEREO, dict.fromkeys(range(at, at + 5), with_picture), lag=lag)
    unusable = range(at, at + 1 + lag)
    assert set(drive.statuses(*unusable)) == {"unusable"}
    after = drive.statuses(*range(unusable.stop, at + 5))
    assert set(after) <= ({"tracking"} if at else {"started", "tracking"})
    assert drive.steps[-1].covariance is not None


@pytest.mark.parametrize("lag", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_camera_that_comes_with_it_is_as_good_as_one_that_comes_with_the_next(lag):
    """Without metres others carry the base on by where they were first seen."""
    missing = {step: {"right"} if step < 4 else {"left"} if step > 6 else set() for step in range(10)}
    later = {**missing, 4: {"right"}}
    drive = Drive(sim.circle(10), sim.STEREO, {4: poses(NAN)}, lag=lag, metres=99, missing=missing)
    there = Drive(sim.circle(10), sim.STEREO, {}, lag=lag, metres=99, missing=later)
    for step, other in zip(drive.steps[5:], there.steps[5:], strict=True):
        np.testing.assert_allclose(step.T_odom_base, other.T_odom_base, atol=1e-3)


def test_windows_that_are_never_finite_are_no_start():
    drive = Drive(sim.circle(4), sim.STEREO, {number: poses(NAN) for number in range(4)})
    assert set(drive.statuses(*range(4))) == {"unusable"}


def test_which_sets_leave_does_not_hang_on_it():
    """All are keyframes; the choice goes by the last window that showed something."""
    drive = Drive(sim.straight(7, 8.0), sim.STEREO, {6: poses(NAN)})
    stamps = sorted({view.stamp_ns for view in drive.steps[5].views})
    assert drive.history.leaving(6, stamps) == drive.history.leaving(5, stamps) is not None
