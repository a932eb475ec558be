"""What the base hangs on: a rig that comes late, levers without metres, cameras that drop out."""

import logging
import math

import numpy as np
import pytest
import torch
import window_simulation as sim

from da3_ros.datatypes import Frame, FrameSet, WindowPrediction
from da3_ros.geometry.se3 import T_BODY_OPTICAL, T_from, invert, rotation_angle
from da3_ros.streaming.transfer import Downloader
from da3_ros.tracking import TrackingSettings, WindowTracking
from da3_ros.tracking.carried_camera import CarriedCamera
from da3_ros.tracking.scale_filter import ScaleFilter
from da3_ros.tracking.tracker import Tracker
from da3_ros.tracking.window_scale import thumbnail_grid

SOME, NO_IMAGE = torch.device("cpu"), np.empty((0, 0, 3))


def mount(x, y, heading, down):
    """T_base_cam (4, 4) of a camera that looks ``down`` radians below the horizon."""
    c, s = math.cos(down), math.sin(down)
    pitch = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    return T_from(sim.yaw(heading) @ pitch, np.array([x, y, 0.5])) @ T_BODY_OPTICAL


RIG = {"left": mount(0.4, 0.3, 0.1, 0.3), "right": mount(0.4, -0.3, -0.1, 0.2)}


class Drive:
    """A drive of RIG; ``steps`` are TrackedSteps and ``true`` (n, 4, 4) where the base was.

    ``rig``: step -> T_base_cam that are known from then on. ``metres``: step from which on a network gives metres, with
    the relative ``stddev`` that it claims.
    """

    def __init__(self, way, rig, metres=0, missing=None, noise=None, sets=4, stddev=1e-3, seed=0):
        tracking = WindowTracking(TrackingSettings(("metric_model",), sets, 2), SOME)
        self.steps, self.true, downloader = [], [], Downloader(SOME)
        self.cameras = {}  # (camera, stamp) -> T_world_cam
        windows = sim.windows(way, RIG, sets, noise, seed, missing, tracking.leaving)
        for number, window in enumerate(windows):
            if number in rig:
                tracking.set_rig(rig[number])
            newest = [view for view in window.views if view.newest]
            first, stamp_ns = len(window.views) - len(newest), newest[-1].stamp_ns
            tracking.note(FrameSet(stamp_ns, tuple(Frame(v.camera, v.stamp_ns, NO_IMAGE) for v in newest)))
            scale = torch.tensor(window.metres_per_unit) if number >= metres else None
            prediction = WindowPrediction(
                window.views, tuple(range(first, len(window.views))), window.depth, torch.full_like(window.depth, 2.0),
                window.T_cam_world, window.K, None, sim.colours(window), metres_per_unit=scale,
                metres_stddev=None if scale is None else scale * stddev,
            )  # fmt: skip
            tracked = tracking.place(prediction, window.K)
            arrays = {
                "track_report": tracked.report, "track_depth": tracked.depth, "track_weight": tracked.weight,
                "T_odom_cam": tracked.T_odom_cam, "K": window.K,
            }  # fmt: skip
            if tracked.T_odom_base is not None:
                arrays["T_odom_base"] = tracked.T_odom_base
            download = downloader.start(arrays)
            self.steps.append(tracking.submit(number, stamp_ns, prediction, tracked, download).settle())
            self.true.append(window.T_world_base)
            seen = zip(window.views, window.T_world_cam, strict=True)
            self.cameras.update({(view.camera, view.stamp_ns): T for view, T in seen})

    def units(self, number):
        """Odom's units per metre at a step, by the coarse depth of each view that has one."""
        views = [view for view in self.steps[number].views if view.depth is not None]
        rows, columns = thumbnail_grid(sim.HEIGHT, sim.WIDTH)
        true = [sim.true_depth(self.cameras[view.camera, view.stamp_ns])[rows, columns] for view in views]
        return [np.median(view.depth / z) for view, z in zip(views, true, strict=True)]

    @property
    def bases(self):
        return [step.T_odom_base for step in self.steps]

    def camera(self, number, name):
        return next(view.T_odom_cam for view in self.steps[number].newest if view.camera == name)

    def moved(self, number):
        """Distance by which the base's step to ``number`` differs from the true one, metres or odom's unit."""
        estimated, true = (invert(poses[number - 1]) @ poses[number] for poses in (self.bases, self.true))
        return np.linalg.norm((estimated - true)[:3, 3])

    def statuses(self, status):
        return [number for number, step in enumerate(self.steps) if step.status == status]


def test_a_late_rig_starts_odom_once_as_if_it_had_been_there(caplog):
    noise = sim.Noise(rotation_rad=0.003, translation=0.01)
    with caplog.at_level(logging.WARNING):
        late = Drive(sim.circle(16), {7: RIG}, noise=noise)
    there = Drive(sim.circle(16), {0: RIG}, noise=noise)
    assert late.bases[:7] == [None] * 7
    assert late.statuses("restarted") == [7] and [step.anew for step in late.steps].count(True) == 1
    assert not any(step.anew for step in there.steps)
    assert [record.message for record in caplog.records if "odom starts once more" in record.message] == [
        "the transforms of cameras left, right have come after the first window: odom starts once more at 1.700 s, as "
        "if they had been there from the beginning; path, keyframes, loops and map start anew"
    ]
    for number in range(7, 16):
        # With the rig all cameras together carry the base; without it each view stood for itself.
        np.testing.assert_allclose(late.bases[number], there.bases[number], atol=0.03)
        assert late.bases[number][2, 2] > 0.999  # level


def test_with_a_late_rig_the_covariance_is_still_that_of_the_whole_way():
    """Nearly all of it is that of the scale, along the way."""
    late, there = (Drive(sim.straight(14, 1.5), {step: RIG}, stddev=0.2).steps[-1].covariance for step in (9, 0))
    assert np.sqrt(there[0, 0]) > 0.05
    np.testing.assert_allclose(late[:3, :3], there[:3, :3], rtol=0.1, atol=0.02 * there[0, 0])


@pytest.mark.parametrize("metres", [0, 99], ids=["metric", "own unit"])
def test_a_late_rig_is_exact_where_windows_are(metres):
    late, there = Drive(sim.circle(12), {5: RIG}, metres), Drive(sim.circle(12), {0: RIG}, metres)
    for number in range(5, 12):
        np.testing.assert_allclose(late.bases[number], there.bases[number], atol=1e-5)
        for view, other in zip(late.steps[number].views, there.steps[number].views, strict=True):
            np.testing.assert_allclose(view.T_odom_cam, other.T_odom_cam, atol=1e-5)


def test_a_late_rig_without_the_camera_that_odom_began_with_starts_at_the_base():
    drive = Drive(sim.circle(12), {5: {"right": RIG["right"]}})
    assert drive.statuses("restarted") == [5]
    relative = [invert(drive.bases[5]) @ base for base in drive.bases[5:]]
    true = [invert(drive.true[5]) @ base for base in drive.true[5:]]
    np.testing.assert_allclose(relative, true, atol=1e-4)
    assert np.linalg.norm(drive.bases[5][:3, 3]) < 0.3 and drive.bases[5][2, 2] > 0.9999


def test_where_odom_starts_at_the_base_in_another_unit_no_depth_is_in_the_old_one():
    """Without metres each start has the unit of its first window; the choice of anchors compares all depth."""
    drive = Drive(sim.circle(12), {5: {"right": RIG["right"]}}, metres=99)
    before, after = (np.mean(drive.units(number)) for number in (4, 5))
    assert abs(after / before - 1) > 0.1
    for number in range(5, 12):
        np.testing.assert_allclose(drive.units(number), after, rtol=1e-3)
    assert len(drive.units(11)) == len(drive.steps[11].views) == 8  # those that came since have theirs


def test_a_rig_that_is_published_again_starts_nothing():
    drive = Drive(sim.circle(8), {0: {"left": RIG["left"]}, 4: RIG, 6: dict(RIG)})
    assert drive.statuses("restarted") == [] and not any(step.anew for step in drive.steps)
    assert max(drive.moved(number) for number in range(1, 8)) < 1e-4


def test_without_metres_the_base_is_where_its_camera_is():
    drive = Drive(sim.circle(10), {0: RIG}, metres=99)
    turn = drive.bases[0][:3, :3] @ drive.true[0][:3, :3].T
    for number, base in enumerate(drive.bases):
        np.testing.assert_allclose(base[:3, 3], drive.camera(number, "left")[:3, 3], atol=1e-9)
        assert rotation_angle(turn.T @ base[:3, :3] @ drive.true[number][:3, :3].T) < 1e-4
        assert drive.steps[number].source == "none" and np.isnan(drive.steps[number].report.misfit[:, 3:]).all()


def test_without_metres_rounding_does_not_add_up():
    drive = Drive(sim.circle(40), {0: RIG}, metres=99, missing={step: {"left"} for step in range(30, 36)})
    R = np.stack([base[:3, :3] for base in drive.bases])
    assert np.abs(R @ R.swapaxes(1, 2) - np.eye(3)).max() < 1e-6


def test_without_metres_another_camera_carries_the_base_on_without_a_jump():
    there = Drive(sim.circle(14), {0: RIG}, metres=99)
    drops = Drive(sim.circle(14), {0: RIG}, metres=99, missing={step: {"left"} for step in range(5, 9)})
    np.testing.assert_allclose(drops.bases, there.bases, atol=1e-4)


def test_without_metres_a_camera_that_was_never_seen_with_the_base_takes_over_where_it_is():
    missing = {step: {"right"} if step < 5 else {"left"} for step in range(10)}
    drive = Drive(sim.circle(10), {0: RIG}, metres=99, missing=missing)
    steps = np.linalg.norm(np.diff([base[:3, 3] for base in drive.bases], axis=0), axis=1)
    assert steps[4] < 1e-9 and steps.max() < 1.5 * np.median(steps)  # the cameras are 0.6 m from each other
    assert np.all(steps[5:] > 0.5 * np.median(steps))


@pytest.mark.parametrize("missing", [{}, {step: {"left"} for step in range(4, 8)}], ids=["all there", "left dropped"])
def test_the_first_metres_leave_the_base_where_it_is_and_bring_the_levers(missing, caplog):
    with caplog.at_level(logging.WARNING):
        drive = Drive(sim.turning(12), {0: RIG}, metres=6, missing=missing)
    assert drive.statuses("scale_found") == [6]
    assert [step.anew for step in drive.steps] == [number == 6 for number in range(12)]
    assert sum("from 1.600 s on odom is in metres" in record.message for record in caplog.records) == 1
    # It turns on the spot: without levers in metres the base has gone round with its camera, from here on it stays.
    places = np.array([base[:3, 3] for base in drive.bases])
    assert np.linalg.norm(np.diff(places[:6], axis=0), axis=1).min() > 0.005
    assert np.linalg.norm(places[6:] - places[5], axis=1).max() < 2e-3
    for number in range(6, 12):
        seen = {view.camera: view.T_odom_cam for view in drive.steps[number].newest}
        for camera, T_odom_cam in seen.items():
            np.testing.assert_allclose(invert(drive.bases[number]) @ T_odom_cam, RIG[camera], atol=2e-3)


def test_the_covariance_counts_from_the_first_metres_on():
    noise = sim.Noise(rotation_rad=0.003, translation=0.01)
    late, never = Drive(sim.circle(12), {0: RIG}, 6, noise=noise), Drive(sim.circle(12), {0: RIG}, 0, noise=noise)
    assert np.trace(late.steps[6].covariance[:3, :3]) < 0.5 * np.trace(never.steps[6].covariance[:3, :3])


def test_with_the_first_metres_nothing_of_what_views_are_off_by_is_forgotten():
    """The errors against the body of that step are what its covariance says from the next one on."""
    noise, squared = sim.Noise(rotation_rad=0.003, translation=0.01), []
    for seed in (4, 10, 31):  # units of more than 2 m
        drive = Drive(sim.circle(20), {0: RIG}, 16, noise=noise, seed=seed)
        for number in range(17, 20):
            way, true = (invert(poses[16]) @ poses[number] for poses in (drive.bases, drive.true))
            variance = np.trace(drive.steps[number].covariance[:3, :3])
            squared.append(np.sum((way - true)[:3, 3] ** 2) / variance)
    assert 0.4 < np.mean(squared) < 1.6


def test_without_a_rig_the_covariance_is_not_that_of_a_way_from_camera_to_camera():
    """The first camera drops out and returns, and the unsure scale makes each way unsure."""
    missing = {step: {"left"} for step in (*range(4, 6), *range(8, 10))}
    there, drops = (Drive(sim.straight(12, 0.2), {}, missing=gone, stddev=0.2) for gone in ({}, missing))
    for one, other in zip(there.steps[1:], drops.steps[1:], strict=True):
        stddev = np.sqrt(np.diag(other.covariance))[:3]
        np.testing.assert_allclose(stddev, np.sqrt(np.diag(one.covariance))[:3], rtol=0.1, atol=1e-3)
    assert {step.status for step in drops.steps[1:]} == {"tracking"}


def test_a_camera_is_carried_on_by_others_in_lengths_as_they_are_now():
    apart, carried = T_from(np.eye(3), np.array([0.0, -0.6, 0.0])), CarriedCamera()
    still = np.zeros(3)
    poses = [T_from(sim.yaw(0.1 * step), np.array([0.1 * step, 0.0, 0.0])) for step in range(3)]
    carried.step({"left": poses[0], "right": poses[0] @ apart}, 1.0, still)
    grown = T_from(apart[:3, :3], 2 * apart[:3, 3])
    np.testing.assert_allclose(carried.step({"right": poses[1] @ grown}, 2.0, still), poses[1], atol=1e-12)
    np.testing.assert_allclose(carried.step({"rear": poses[2]}, 1.0, still), poses[1], atol=1e-12)  # never seen with it
    np.testing.assert_allclose(carried.step({"rear": poses[0], "left": poses[2]}, 1.0, still), poses[2], atol=1e-12)


def test_a_camera_that_nothing_carries_on_stays_where_it_is_when_lengths_grow():
    carried, start = CarriedCamera(), T_from(np.eye(3), np.array([1.0, 2.0, 0.0]))
    carried.step({"left": start}, 1.0, np.zeros(3))
    here = carried.step({"rear": np.eye(4)}, 1.5, np.array([0.0, 0.0, 0.5]))
    np.testing.assert_allclose(here, T_from(np.eye(3), np.array([1.5, 3.0, 0.5])))



def test_the_base_waits_for_a_camera_whose_place_is_known():
    """The only one drops out: another camera's pose, or a lever from it, would be a jump."""
    known = {"right": RIG["right"]}
    missing = {step: {"right"} for step in range(4, 8)}
    drive = Drive(sim.circle(12), {0: known}, missing=missing)
    assert [base is None for base in drive.bases] == [4 <= number < 8 for number in range(12)]
    assert drive.statuses("no_base") == [4, 5, 6, 7]
    there = Drive(sim.circle(12), {0: known})
    for number in (*range(4), *range(8, 12)):
        np.testing.assert_allclose(drive.bases[number], there.bases[number], atol=1e-4)


def test_where_nothing_is_shared_meanwhile_odom_stays_level():
    """A single set in the window: each one is lost, and the camera that stands in has no known place."""
    drive = Drive(sim.straight(6), {0: {"right": RIG["right"]}}, missing={3: {"right"}}, sets=1)
    assert drive.steps[3].T_odom_base is None and drive.statuses("lost")
    assert all(base[2, 2] > 0.9999 for base in drive.bases if base is not None)


def test_odometry_bridges_the_way_of_the_sets_without_a_base_too():
    """Of windows that share no view: cameras that say nothing of the base do not hide what the robot has driven."""
    tracker, way = Tracker(ScaleFilter(5.0, 5), SOME, 4), sim.straight(8)
    place = {"left": RIG["left"]}
    for number, window in enumerate(sim.windows(way, RIG, 1, missing={step: {"left"} for step in (3, 4, 5)})):
        stamp_ns = window.views[0].stamp_ns
        tracker.note(FrameSet(stamp_ns, tuple(
            Frame(view.camera, stamp_ns, NO_IMAGE, T_odom_base=way[number]) for view in window.views
        )))  # fmt: skip
        found = sim.step(tracker, window, place, sources=("metric_model",), metres=torch.tensor([1.0, 0.01]))
        if number:
            assert found.bridged == (number not in (3, 4, 5))
    moved = invert(way[0]) @ way[-1]
    np.testing.assert_allclose(found.T_odom_base.numpy(), moved, atol=1e-6)
