"""The tracker apart from the network: exact predictions in random gauges, then with noise and outliers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import window_simulation as sim

from da3_ros.geometry.se3 import invert, rotation_angle
from da3_ros.tracking import ScaleFilter, Tracker, TrackReport


def make_tracker(views=16):
    return Tracker(ScaleFilter(time_constant_s=5.0, jump_after=5), torch.device("cpu"), views)


class Step:
    """A step's window and its report."""

    def __init__(self, tracker, window, rig, **more):
        self.window = sim.step(tracker, window, rig, **more)
        self.report = TrackReport.of(self.window.report.numpy(), len(self.window.T_odom_cam))


class Run:
    """A way tracked from its first window to its last, beside the truth."""

    def __init__(self, way, rig, *, known_rig=True, metres_stddev=None, seed=0, **simulated):
        tracker = make_tracker()
        rng = np.random.default_rng(seed)
        estimated, true, self.results, self.scale_error = [], [], [], []
        for window in sim.windows(way, rig, seed=seed, **simulated):
            metres = None
            if metres_stddev is not None:
                metres = window.metres_per_unit * math.exp(rng.normal() * metres_stddev)
                metres = torch.tensor([metres, metres * metres_stddev])
            step = Step(tracker, window, rig if known_rig else {}, metres=metres)
            result, newest = step.window, len(window.views) - 1
            posed = result.T_odom_cam[newest] if result.T_odom_base is None else result.T_odom_base
            estimated.append(posed.numpy())
            true.append(window.T_world_cam[newest] if result.T_odom_base is None else window.T_world_base)
            self.results.append(step.report)
            self.scale_error.append(abs(float(result.metres_per_unit) / window.metres_per_unit - 1))
        self.estimated, true = np.stack(estimated), np.stack(true)
        self.true = self.estimated[0] @ invert(true[0]) @ true

    @property
    def distance(self) -> float:
        return float(np.linalg.norm(np.diff(self.true[:, :3, 3], axis=0), axis=1).sum())

    @property
    def drift(self) -> float:
        """Largest position error, relative to the distance."""
        return float(np.linalg.norm(self.estimated[:, :3, 3] - self.true[:, :3, 3], axis=1).max()) / self.distance

    @property
    def rotation_error(self) -> float:
        return max(rotation_angle(a[:3, :3].T @ b[:3, :3]) for a, b in zip(self.estimated, self.true, strict=True))

    @property
    def largest_jump(self) -> float:
        """Largest difference between the estimated and the true displacement of a step, metres."""
        steps = [np.diff(poses[:, :3, 3], axis=0) for poses in (self.estimated, self.true)]
        return float(np.linalg.norm(steps[0] - steps[1], axis=1).max())


RIGS = {"one camera": sim.FRONT, "stereo": sim.STEREO, "ring without overlap": sim.RING}
WAYS = {"straight": sim.straight(60), "circle": sim.circle(80), "stop and go": sim.stop_and_go(80)}


# Every rig and every way once.
PAIRS = [("one camera", "stop and go"), ("stereo", "circle"), ("ring without overlap", "straight")]
MORE = [(rig, way) for rig in RIGS for way in WAYS if (rig, way) not in PAIRS]


@pytest.mark.parametrize(("rig", "way"), [*PAIRS, *(pytest.param(*one, marks=pytest.mark.slow) for one in MORE)])
def test_exact_windows_in_random_gauges_become_one_frame(rig, way):
    rig, way = RIGS[rig], WAYS[way]
    run = Run(way, rig, metres_stddev=1e-6 if len(rig) == 1 else None)
    assert run.drift < 1e-3
    assert run.rotation_error < 1e-3
    assert max(run.scale_error) < 1e-3
    assert run.largest_jump < 1e-3


def test_turning_on_the_spot_keeps_place_and_scale():
    run = Run(sim.turning(60), sim.STEREO)
    assert np.abs(run.estimated[:, :3, 3]).max() < 1e-3
    assert run.rotation_error < 1e-3
    assert max(run.scale_error) < 1e-3


def test_pure_rotation_of_one_camera_is_recognised_and_the_depth_carries_the_scale():
    camera = {"front": sim.mount(0.0, 0.0, 0.0)}
    run = Run(sim.turning(40), camera, metres_stddev=0.01)
    assert all(float(result.baseline) < 0.01 for result in run.results[2:])
    assert all(bool(result.carried) for result in run.results[1:])
    assert np.median(run.scale_error) < 0.02


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(sim.straight(80), id="straight"),
        pytest.param(sim.circle(120), id="circle", marks=pytest.mark.slow),
    ],
)
def test_noisy_depth_drifts_under_one_percent(way):
    noise = sim.Noise(depth=0.05, view_depth=0.02)
    run = Run(way, sim.STEREO, noise=noise)
    assert run.drift < 0.01
    assert np.median(run.scale_error) < 0.02


@pytest.mark.parametrize("rig", [sim.FRONT, sim.RING], ids=["one camera", "ring"])
def test_rotations_stay_rotations_though_those_of_a_network_are_a_little_off(rig):
    """Windows of one set follow from nothing but the last window: what one adds stays."""
    tracker, worst = make_tracker(), 0.0
    for window in sim.windows(sim.circle(40), rig, sets=1):
        window.T_cam_world[:, :3, :3] *= 1 + 2e-7
        tracked = sim.step(tracker, window, rig).T_odom_cam[:, :3, :3]
        off = tracked.transpose(-1, -2) @ tracked - torch.eye(3, dtype=torch.float64)
        worst = max(worst, off.abs().max().item())
    assert worst < 1e-10


def test_a_fifth_of_wrong_depth_changes_little():
    clean = Run(sim.circle(80), sim.FRONT, metres_stddev=0.02, noise=sim.Noise(depth=0.02))
    spoilt = Run(sim.circle(80), sim.FRONT, metres_stddev=0.02, noise=sim.Noise(depth=0.02, outliers=0.2))
    assert spoilt.drift < clean.drift + 0.01
    assert float(spoilt.results[-1].steady) < 0.9 < float(clean.results[-1].steady)


def test_a_camera_drops_out_and_returns():
    missing = {step: {"left"} for step in range(20, 40)}
    run = Run(sim.circle(60), sim.STEREO, missing=missing, noise=sim.Noise(depth=0.05))
    assert run.drift < 0.01
    assert run.largest_jump < 0.01


def test_a_window_that_shares_nothing_stays_where_the_last_one_was():
    tracker = make_tracker()
    first, *_, last = sim.windows(sim.straight(20), sim.STEREO)
    before = Step(tracker, first, sim.STEREO)
    after = Step(tracker, last, sim.STEREO)
    assert before.window.first and not after.window.first
    assert not before.window.connected and not after.window.connected
    assert not after.report.carried
    assert torch.allclose(after.window.T_odom_base, before.window.T_odom_base, atol=1e-6)


def test_without_any_source_the_scale_is_continuous_but_not_metric():
    run = Run(sim.circle(80), sim.FRONT, known_rig=False)
    assert not run.results[-1].metric
    ratio = [r.metres_per_unit for r in run.results]
    assert len(set(np.round(ratio, 3))) > 10  # the windows' own units differ
    steps = [np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1) for poses in (run.estimated, run.true)]
    relative = steps[0][5:] / steps[1][5:]
    assert relative.std() / relative.mean() < 1e-3


def test_the_first_metres_do_not_move_a_base_that_is_far_from_its_camera():
    """The lever from the camera to the base is in metres before the scale is."""
    rig = {"front": sim.mount(1.0, 0.0, 0.0)}
    tracker, bases = make_tracker(), []
    for number, window in enumerate(sim.windows(sim.turning(16), rig, seed=2)):
        metres = torch.tensor([window.metres_per_unit, window.metres_per_unit * 1e-3]) if number >= 8 else None
        bases.append(Step(tracker, window, rig, metres=metres).window.T_odom_base[:3, 3].numpy().copy())
    steps = np.linalg.norm(np.diff(bases, axis=0), axis=1)
    assert steps[7] < 1.2 * steps[6]  # at the first metres, which before were 0.6 of them
    assert steps[8:].max() < 1e-3  # it turns on the spot


def test_a_moved_camera_shows_in_its_residual():
    rig = dict(sim.RING)
    tilted = dict(rig)
    tilted["camera1"] = rig["camera1"].copy()
    tilted["camera1"][:3, :3] = sim.yaw(math.radians(1.8)) @ rig["camera1"][:3, :3]
    tracker = make_tracker()
    for window in sim.windows(sim.circle(10), tilted):
        result = Step(tracker, window, rig)
    turns = np.degrees(result.report.misfit[:, :3])
    np.testing.assert_allclose(turns[1], [0.0, 0.0, 1.8], atol=0.1)  # about the body's z axis
    assert np.abs(np.delete(turns, 1, axis=0)).max() < 0.1


def test_of_two_cameras_both_show_half_of_a_turn():
    """Nothing tells which one has moved, so neither is left out."""
    turned = dict(sim.STEREO)
    turned["right"] = turned["right"].copy()
    turned["right"][:3, :3] = sim.yaw(math.radians(1.8)) @ turned["right"][:3, :3]
    tracker = make_tracker()
    for window in sim.windows(sim.circle(10), turned):
        result = Step(tracker, window, sim.STEREO)
    turns = np.degrees(result.report.misfit[:, :3])
    np.testing.assert_allclose(turns, [[0.0, 0.0, -0.9], [0.0, 0.0, 0.9]], atol=0.05)


def test_reset_starts_again_at_the_origin():
    tracker = make_tracker()
    for window in sim.windows(sim.straight(5), sim.STEREO):
        moved = sim.step(tracker, window, sim.STEREO)
    assert moved.T_odom_base[:3, 3].norm() > 0.1
    tracker.reset()
    window = next(sim.windows(sim.straight(5), sim.STEREO))
    again = sim.step(tracker, window, sim.STEREO)
    assert torch.allclose(again.T_odom_base, torch.eye(4, dtype=torch.float64), atol=1e-5)


@pytest.mark.slow
def test_a_figure_of_eight_of_two_thousand_steps():
    run = Run(sim.figure_of_eight(2000, turns=16), sim.STEREO, noise=sim.Noise(depth=0.05))
    assert run.drift < 1e-3
    assert max(run.scale_error) < 0.02


def test_what_the_network_sees_from_afar_counts_little_against_what_it_sees_from_near():
    """The two oldest of three older views say the same, and are 0.3 m off; the robot has gone on by much since."""
    tracker, aside = make_tracker(), 0.3
    windows = list(sim.windows(sim.straight(8, 12.0), sim.FRONT, sets=4))
    for number, window in enumerate(windows):
        if number == len(windows) - 1:
            T_cam_world = window.T_cam_world.clone()
            T_cam_world[:2, 0, 3] -= aside / window.metres_per_unit
            window = replace(window, T_cam_world=T_cam_world)
        metres = torch.tensor([window.metres_per_unit, 0.002 * window.metres_per_unit])
        result = sim.step(tracker, window, sim.FRONT, metres=metres)
    way = result.T_odom_base.numpy()[:3, 3]
    assert np.linalg.norm(way - (window.T_world_base - windows[0].T_world_base)[:3, 3]) < aside / 2
