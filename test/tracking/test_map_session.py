"""From tracked windows to map, loops and masks: everything of a drive but the network, which is simulated."""

import math
import threading

import cv2
import numpy as np
import pytest
import torch

from da3_ros.datatypes import Frame, FrameSet, WindowPrediction
from da3_ros.evaluation import simulated_windows as sim
from da3_ros.evaluation.simulated_maps import rays, texture
from da3_ros.geometry.se3 import T_from, invert
from da3_ros.streaming.transfer import Downloader
from da3_ros.tracking import TrackingSettings, WindowTracking
from da3_ros.tracking.map_session import DynamicStep, MapSession, full_size
from da3_ros.tracking.mapping import MappingSettings, OdomChange
from da3_ros.tracking.steady_motion import UNKNOWN

BITS = 14  # of the view's number, painted into its picture


class Session:
    """A drive with a rig; ``thing`` (step, T_world_cam, depth) -> depth puts something into the pictures.

    ``before`` (session, step) is called before each step, and with None after the last one. The transforms of
    the rig's cameras are known from step ``known_from`` on, but for that of "other"; ``missing`` as in sim.windows."""

    def __init__(
        self, way, rig=sim.STEREO, noise=None, seed=0, thing=None, loops=True, before=None, known_from=1, missing=None,
        sets=4, **settings,
    ):  # fmt: skip
        self._rng = np.random.default_rng(seed + 7)
        self._views = []  # T_world_cam of each picture, by its number
        self._features = np.random.default_rng(99).normal(size=(64, 4)) * [0.8, 0.8, 1.5, 1.5]
        device = torch.device("cpu")
        tracking = WindowTracking(TrackingSettings(("rig",), sets, len(rig)), device)
        dynamic_step, downloader = DynamicStep(0.15, device, "eager"), Downloader(device)
        settings = MappingSettings(window_views=4, voxel_m=0.2, loops=loops, interval=4, delay=3, **settings)
        self.session = MapSession(settings, self._relate, device, next(iter(rig)), 0.0, "map", 1.0)
        self.estimates, self.masks, self.steady, truth = [], [], [], []
        windows = sim.windows(way, rig, sets, noise, seed, missing, tracking.leaving)
        for number, window in enumerate(windows, 1):
            if number == known_from:
                tracking.set_rig({camera: T for camera, T in rig.items() if camera != "other"})
            newest = [view for view in window.views if view.newest]
            first = len(window.views) - len(newest)
            stamp_ns = newest[-1].stamp_ns
            depth = window.depth
            if thing is not None:
                changed = [
                    thing(number, z.numpy() * window.metres_per_unit) / window.metres_per_unit for z in window.depth
                ]
                depth = torch.from_numpy(np.stack(changed)).float()
            colours, features = zip(*(self._picture(T) for T in window.T_world_cam[first:]), strict=True)
            prediction = WindowPrediction(
                window.views, tuple(range(first, len(window.views))), depth, torch.full_like(depth, 2.0),
                window.T_cam_world, window.K, None, torch.from_numpy(np.stack(colours)),
                features=torch.from_numpy(np.stack([np.zeros(64)] * first + list(features))).float(),
            )  # fmt: skip
            tracking.note(FrameSet(stamp_ns, tuple(Frame(v.camera, v.stamp_ns, np.empty((0, 0, 3))) for v in newest)))
            tracked = tracking.place(prediction, window.K)
            dynamic = dynamic_step.step(stamp_ns, prediction, window.K, tracked)
            tracking.exclude(dynamic)
            arrays = {
                "track_report": tracked.report, "track_depth": tracked.depth, "track_weight": tracked.weight,
                "T_odom_cam": tracked.T_odom_cam, "K": window.K, "track_features": prediction.features[first:],
            }  # fmt: skip
            if tracked.T_odom_base is not None:
                arrays["T_odom_base"] = tracked.T_odom_base
            pending = tracking.submit(number, stamp_ns, prediction, tracked, downloader.start(arrays))
            masks = full_size(dynamic, sim.HEIGHT, sim.WIDTH)
            if before is not None:
                before(self.session, number)
            self.session.submit(pending, prediction, tracked, masks, points=True)
            self.estimates.append(self.session.estimate())
            self.masks.append(masks.numpy() > 0)
            self.steady.append(pending.settle().report.steady)
            truth.append(window.T_world_base)
        self.true = invert(truth[0]) @ np.stack(truth)
        self.T_world_odom = truth[0]
        if before is not None:
            before(self.session, None)
        self.session.close()

    def _picture(self, T_world_cam):
        depth = sim.true_depth(T_world_cam)
        colours = texture((depth[..., None] * rays()) @ T_world_cam[:3, :3].T + T_world_cam[:3, 3])
        for bit in range(BITS):
            colours[:3, 3 * bit : 3 * bit + 3] = 255 * (len(self._views) >> bit & 1)
        self._views.append(T_world_cam)
        heading = math.atan2(T_world_cam[1, 2], T_world_cam[0, 2])
        where = np.array([*T_world_cam[:2, 3], math.cos(heading), math.sin(heading)])
        return np.ascontiguousarray(colours.transpose(2, 0, 1)), np.cos(self._features @ where)

    def _relate(self, pictures, contents):
        """A perfect network: reads which views they are out of the pictures."""
        assert all(content == (0, 0, sim.HEIGHT, sim.WIDTH) for content in contents)
        numbers = [sum((p[1, 3 * bit + 1, 0] > 127) << bit for bit in range(BITS)) for p in pictures]
        scale = math.exp(self._rng.uniform(-1, 1))
        gauge = T_from(sim.yaw(self._rng.uniform(-3, 3)), self._rng.normal(size=3))
        T = np.stack([gauge @ self._views[number] for number in numbers])
        T[:, :3, 3] /= scale
        return T, np.stack([sim.true_depth(self._views[number]) for number in numbers]) / scale


@pytest.fixture(scope="module")
def eight():
    noise = sim.Noise(depth=0.03, rotation_rad=0.01, translation=0.01)
    return Session(sim.figure_of_eight(80, turns=2), noise=noise)


def errors(session):
    """Root mean square distance of the keyframes from the truth in metres, and of odom from it at the same time."""
    stamps, poses = session.session.keyframe_poses()
    steps = (stamps - 1_000_000_000) // 100_000_000
    true = session.true[steps][:, :3, 3]
    return float(np.sqrt(np.square(poses[:, :3, 3] - true).sum(-1).mean()))


@pytest.mark.parametrize("sets", [2, 4])
def test_odometry_between_keyframes_is_as_unsure_as_views_are_however_small_the_window(sets):
    """Of two sets of one camera each the next window shares one view, which agrees with itself."""
    noise = sim.Noise(rotation_rad=0.01, translation=0.01)
    session = Session(sim.straight(16, speed=4.0), sim.FRONT, noise, sets=sets)
    keyframes = list(session.session._mapper._store)[2:]
    assert len(keyframes) > 3
    assert all(one.view_variance[0] > 0.004**2 and one.view_variance[1] > 0.0 for one in keyframes)


def test_a_tracked_drive_closes_loops_and_its_map_lies_on_the_walls(eight):
    report = eight.estimates[-1].report
    assert report.loops >= 2
    assert report.restarts <= 1
    assert report.keyframes > 20
    assert errors(eight) < 0.25
    xyz = eight.session.snapshot().result().cloud().xyz @ eight.T_world_odom[:3, :3].T + eight.T_world_odom[:3, 3]
    assert np.median(sim.surface_distance(xyz)) < 0.2


def test_clouds_come_now_and_then_in_the_map_frame(eight):
    clouds = [one.points for one in eight.estimates if one.points is not None]
    assert 5 <= len(clouds) <= 9  # 8 s of drive
    assert clouds[-1].frame_id == "map" and clouds[-1].dense
    xyz = clouds[-1].data.view(np.float32)[0, :, :3]
    assert np.isfinite(xyz).all() and len(xyz) > 1000


def box(step, depth):
    """Something 1.5 m away that crosses the picture."""
    depth = depth.copy()
    left = (step * 3) % (sim.WIDTH + 12) - 12
    depth[10:30, max(0, left) : max(0, left + 12)] = 1.5
    return depth


def test_what_moves_is_masked_and_what_stands_is_not():
    session = Session(sim.circle(40), thing=box)
    found, false = [], []
    for step, masks in enumerate(session.masks, 1):
        if step <= 10:
            continue
        there = box(step, np.full((sim.HEIGHT, sim.WIDTH), 9.0)) == 1.5
        if there.sum() > 100:
            found.append(masks[:, there].mean())
        false.append(masks[:, ~there].mean())
    assert np.mean(found) > 0.7
    assert np.mean(false) < 0.02


def test_noise_of_a_weak_network_is_no_motion_and_hides_none_that_is_clear(capsys):
    fields = np.random.default_rng(5).normal(size=(8, 5, 6))

    def weak(step, depth):
        """Surfaces are bent by a third, and slowly come to be bent in another way."""
        k, share = divmod(step / 6, 1.0)
        field = (1 - share) * fields[int(k)] + share * fields[int(k) + 1]
        bent = cv2.resize(field, (sim.WIDTH, sim.HEIGHT), interpolation=cv2.INTER_CUBIC)
        return box(step, depth * np.exp(0.3 * bent))

    session = Session(sim.circle(30), thing=weak, loops=False)
    found, false = [], []
    for step, masks in enumerate(session.masks, 1):
        there = box(step, np.full((sim.HEIGHT, sim.WIDTH), 9.0)) == 1.5
        if step > 10:
            false.append(masks[:, ~there].mean())
            if there.sum() > 100:
                found.append(masks[:, there].mean())
    with capsys.disabled():
        print(f"\nweak depth: {np.mean(found):.2%} of what moves masked, {np.mean(false):.2%} of all else")
    assert np.mean(false) < 0.01
    assert np.mean(found) > 0.48


def test_masks_do_not_hang_on_what_is_told_of_the_body(monkeypatch):
    """Since they enter what is remembered; see steady_motion."""
    noise = sim.Noise(depth=0.02, rotation_rad=0.02, translation=0.15)
    told = Session(sim.circle(14), noise=noise, loops=False).masks
    monkeypatch.setattr(WindowTracking, "_motion_noise", lambda self: UNKNOWN)
    as_windows_have_it = Session(sim.circle(14), noise=noise, loops=False).masks
    assert np.mean(told) > 0.001
    assert np.mean(np.not_equal(told, as_windows_have_it)) < 1e-5


def test_without_anything_that_moves_nothing_is_masked(eight):
    still = Session(sim.circle(40), noise=sim.Noise(depth=0.05))
    assert np.mean(still.masks) < 0.002
    assert np.mean(eight.masks) < 0.01


def test_reset_starts_the_map_anew(eight):
    eight.session.reset()
    assert len(eight.session.snapshot().result().cloud()) == 0
    assert np.array_equal(eight.session.estimate().T_map_odom, np.eye(4))
    eight.session.close()


class Held:
    """A mapper's thread that is held up from step ``begin`` to step ``end``, and let finish after the last step."""

    def __init__(self, begin, end):
        self._begin, self._end = begin, end
        self._go, self._held = threading.Event(), threading.Event()

    def __call__(self, session, step):
        if step == self._begin:
            wait_for(session)
            session._worker.post(self._hold)
            assert self._held.wait(10.0)
        elif step is None or not self._begin < step < self._end:
            if self._held.is_set():
                self._go.set()
            wait_for(session)

    def _hold(self):
        self._held.set()
        assert self._go.wait(60.0)  # a step that waited for this thread would never let it go


def wait_for(session):
    """Until the mapper's thread has nothing left to do."""
    session._worker.call(lambda: None).result(10.0)
    while session._worker._items:
        session._worker.call(lambda: None).result(10.0)
    session._worker.call(lambda: None).result(10.0)


def test_a_step_never_waits_for_the_mapper_and_its_motion_is_not_lost():
    way = sim.circle(60)
    prompt = Session(way, noise=sim.Noise(depth=0.02), loops=False)
    late = Session(way, noise=sim.Noise(depth=0.02), loops=False, waits=False, before=Held(20, 40))
    report = late.estimates[-1].report
    assert report.left_out == 20 - 8
    assert 0.5 < report.keyframes / prompt.estimates[-1].report.keyframes < 0.95
    # Odom itself does not depend on the mapper, and no keyframe is elsewhere for the steps that were left out.
    assert errors(late) == pytest.approx(errors(prompt), abs=0.02)
    assert late.estimates[-1].points is None or late.estimates[-1].points.frame_id == "map"


def test_a_map_on_its_own_thread_is_that_of_the_replay_where_time_is_left():
    way = sim.circle(30)
    replayed = Session(way, loops=False)
    live = Session(way, loops=False, waits=False, before=lambda session, _: wait_for(session))
    first, second = (one.session._mapper.cloud() for one in (replayed, live))
    assert len(first) > 1000
    assert first.xyz.tobytes() == second.xyz.tobytes() and first.rgb.tobytes() == second.rgb.tobytes()


def test_a_failure_of_the_mapper_ends_the_next_step():
    def broken(session, step):
        if step == 3:
            session._mapper.step = None
        elif step == 4:
            session._worker._thread.join(10.0)

    with pytest.raises(TypeError):
        Session(sim.circle(8), loops=False, waits=False, before=broken)


def test_a_reset_forgets_what_waits_for_the_mapper():
    def reset(session, step):
        if step is None:
            session.reset()
            wait_for(session)
            assert session.estimate().report.keyframes == 0
            assert len(session.snapshot().result(10.0).cloud()) == 0

    Session(sim.circle(8), loops=False, waits=False, before=reset)


def about(centre, growth, **more):
    return OdomChange.of(growth, (1 - growth) * np.array(centre), **more)


def test_changes_of_odom_add_up():
    first = about([1.0, 2.0, 3.0], 1.02)
    second = about([-4.0, 0.0, 1.0], 0.97, lost=True)
    p = np.array([5.0, -6.0, 7.0])
    both = first.then(second)
    for change, centre in ((first, (1.0, 2.0, 3.0)), (second, (-4.0, 0.0, 1.0))):
        p = np.array(centre) + change.growth * (p - np.array(centre))
    assert np.allclose(both.growth * np.array([5.0, -6.0, 7.0]) + both.shift, p)
    assert both.lost and not both.jumps and not both.anew
    assert about(p, 1.06).then(first).then(about(p, 0.9)).jumps == 2 and first.then(about(p, 1.0, anew=True)).anew


@pytest.mark.parametrize("known_from, restarts", [(1, 0), (5, 1)], ids=["from the start", "late"])
def test_keyframes_hang_on_the_base_alone(known_from, restarts):
    """A rig that comes late starts them anew; steps without the base are none, but what they did to odom counts."""
    rig, lost = {**sim.STEREO, "other": sim.mount(1.0, 0.0, 0.3)}, set(sim.STEREO)
    way = sim.circle(14, per_step=0.1)
    session = Session(way, rig, loops=False, known_from=known_from, missing={8: lost, 9: lost}, keyframe_motion=0.02)
    report = session.estimates[-1].report
    assert report.restarts == restarts
    stamps, poses = session.session.keyframe_poses()
    steps = (stamps - 1_000_000_000) // 100_000_000
    assert set(steps.tolist()) == set(range(known_from - 1, 14)) - {8, 9}
    true = session.true[steps]
    np.testing.assert_allclose(invert(poses[0]) @ poses, invert(true[0]) @ true, atol=0.01)


def test_the_first_metres_start_keyframes_anew_whatever_the_unit_was():
    """The way before is in another unit; here it differs from a metre by less than what counts as a jump."""
    alone = {step: {"right"} for step in range(5)}
    session = Session(sim.circle(10, per_step=0.1), loops=False, missing=alone, seed=39, keyframe_motion=0.02)
    assert session.estimates[-1].report.restarts == 1
    stamps, poses = session.session.keyframe_poses()
    steps = (stamps - 1_000_000_000) // 100_000_000
    assert steps.min() == 5
    true = session.true[steps]
    np.testing.assert_allclose(invert(poses[0]) @ poses, invert(true[0]) @ true, atol=0.01)
