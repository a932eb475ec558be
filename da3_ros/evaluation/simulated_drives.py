"""Whole drives through the tracker and the choice of keyframes, with simulated windows, beside the truth."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from da3_ros.datatypes import Frame, FrameSet, WindowPrediction
from da3_ros.evaluation import simulated_windows as sim
from da3_ros.evaluation.drive_score import DriveScore, starting_at, way_length
from da3_ros.geometry.se3 import invert
from da3_ros.streaming.transfer import Downloader
from da3_ros.tracking import AnchorPolicy, TrackedStep, TrackingSettings, WindowTracking

_NO_IMAGE = np.empty((0, 0, 3), np.uint8)
_METRES_STDDEV = 0.02  # that a simulated metric network claims for each window


@dataclass(frozen=True)
class Scenario:
    """A way and what the robot has. ``source``: rig, odometry, metric_model, range or none. ``repeats``: whether the
    tracker takes windows to repeat their errors, as those of networks do; what ``noise`` makes is new in each."""

    name: str
    way: Sequence[np.ndarray]
    rig: Mapping[str, np.ndarray]
    source: str = "rig"
    noise: sim.Noise = field(default_factory=sim.Noise)
    missing: Mapping[int, set[str]] = field(default_factory=dict)
    sets: int = 4
    recent: int = 2
    repeats: bool = False


class Drive(DriveScore):
    """Runs ``scenario``; afterwards ``steps`` are there, and the score of them."""

    def __init__(self, scenario: Scenario, seed: int = 0, device: torch.device | None = None):
        self.scenario = scenario
        device = device or torch.device("cpu")
        sources = () if scenario.source == "none" else (scenario.source,)
        policy = AnchorPolicy(recent=scenario.recent)
        settings = TrackingSettings(
            sources, scenario.sets, len(scenario.rig), policy=policy, repeats=scenario.repeats
        )
        tracking = WindowTracking(settings, device)
        tracking.set_rig(scenario.rig)
        downloader = Downloader(device)
        rng = np.random.default_rng(seed + 1)
        steps: list[TrackedStep] = []
        scale_errors, poses, truth, step_ms, cloud_m, anchor = [], [], [], [], [], None
        windows = sim.windows(
            scenario.way, dict(scenario.rig), scenario.sets, scenario.noise, seed, dict(scenario.missing),
            tracking.leaving,
        )  # fmt: skip
        for number, window in enumerate(windows, 1):
            newest = [view for view in window.views if view.newest]
            stamp_ns = newest[-1].stamp_ns
            given = window.T_world_base if scenario.source == "odometry" else None
            frames = tuple(Frame(view.camera, view.stamp_ns, _NO_IMAGE, T_odom_base=given) for view in newest)
            prediction = _prediction(window, scenario.source, scenario.noise.metres, rng)
            prediction = replace(
                prediction,
                **{
                    name: getattr(prediction, name).to(device)
                    for name in ("depth", "depth_conf", "T_cam_world", "K", "colours")
                },
            )
            K = window.K.to(device)
            ranges = _ranges(window) if scenario.source == "range" else None
            begin = time.perf_counter()
            tracking.note(FrameSet(stamp_ns, frames))
            tracked = tracking.place(prediction, K, ranges)
            arrays = {
                "track_report": tracked.report, "track_depth": tracked.depth, "track_weight": tracked.weight,
                "T_odom_cam": tracked.T_odom_cam, "K": K,
            }  # fmt: skip
            if tracked.T_odom_base is not None:
                arrays["T_odom_base"] = tracked.T_odom_base
            pending = tracking.submit(number, stamp_ns, prediction, tracked, downloader.start(arrays))
            step = pending.settle()
            step_ms.append((time.perf_counter() - begin) * 1e3)
            assert step.T_odom_base is not None
            steps.append(step)
            poses.append(step.T_odom_base)
            truth.append(window.T_world_base)
            scale_errors.append(abs(step.report.metres_per_unit / window.metres_per_unit - 1))
            if step.report.metric and anchor is None:
                anchor = window.T_world_base @ invert(step.T_odom_base)
            cloud_m.append(math.nan if anchor is None else _cloud_error(step, anchor))
        # What came before the first metres was in a unit of its own, and said so.
        start = next((n for n, step in enumerate(steps) if step.report.metric), 0)
        self.steps = steps[start:]
        estimated, true = np.stack(poses[start:]), np.stack(truth[start:])
        if scenario.source == "none":  # a frame in a unit of its own: only that unit's steadiness counts
            way = way_length(estimated)
            estimated[:, :3, 3] *= way_length(true) / way if way > 0 else 1.0
            scale_errors, cloud_m = [math.nan] * len(steps), [math.nan] * len(steps)
        super().__init__(
            name=scenario.name,
            stamps_ns=np.array([step.stamp_ns for step in self.steps], dtype=np.int64),
            estimated=estimated,
            true=starting_at(true, estimated[0]),
            covariances=[step.covariance for step in self.steps],
            scale_errors=np.array(scale_errors[start:]),
            cloud_m=cloud_m[start:],
            step_ms=step_ms,
            statuses=[step.status for step in self.steps],
            second=round(sim.RATE_HZ),
        )


_DEPTH_NOISE = sim.Noise(depth=0.05, metres=0.02)
_REAL_NOISE = sim.Noise(depth=0.05, view_depth=0.02, rotation_rad=0.002, translation=0.005, metres=0.02)
_AXIS = {"front": sim.mount(0.0, 0.0, 0.0)}


def scenarios(steps: int = 120) -> list[Scenario]:
    """Those of docs/tracking.md, each of so many ``steps``."""
    straight, circle = sim.straight(steps, speed=9.0 / steps * sim.RATE_HZ), sim.circle(steps)
    lost = {step: {"left"} for step in range(steps // 3, 2 * steps // 3)}
    ways = [
        Scenario("straight, stereo", straight, sim.STEREO),
        Scenario("turning (circle), stereo", circle, sim.STEREO),
        Scenario("pure rotation, stereo", sim.turning(steps), sim.STEREO),
        Scenario("pure rotation about one camera", sim.turning(steps), _AXIS, "metric_model"),
        Scenario("stop and go, stereo", sim.stop_and_go(steps), sim.STEREO),
        Scenario("4 cameras without overlap", circle, sim.RING),
        Scenario("one camera, odometry", circle, sim.FRONT, "odometry"),
        Scenario("one camera, metric network", circle, sim.FRONT, "metric_model"),
        Scenario("one camera, range finder", circle, sim.FRONT, "range"),
        Scenario("one camera, nothing metric", circle, _AXIS, "none"),
        Scenario("a camera drops out and returns", circle, sim.STEREO, missing=lost),
    ]
    outliers = Scenario("20 % outlier depth, stereo", circle, sim.STEREO, noise=sim.Noise(outliers=0.2))
    ways.append(outliers)
    noisy = [_with_noise(one, "5 % depth noise", _DEPTH_NOISE) for one in ways]
    metres = _with_noise(ways[7], "2 % off in each window", sim.Noise(metres=0.02))
    real = [_with_noise(one, "noisy poses too", _REAL_NOISE) for one in ways if one.source != "none"]
    return [*ways, metres, *noisy, *real]


def _with_noise(scenario: Scenario, what: str, noise: sim.Noise) -> Scenario:
    return replace(scenario, name=f"{scenario.name}; {what}", noise=replace(noise, outliers=scenario.noise.outliers))


def anchored(steps: int = 240) -> list[tuple[Scenario, Scenario]]:
    """Drives with noisy poses and 8 sets in the window: with old sets as anchors, and with the newest 8 alone."""
    turns = max(1, steps // 125)
    ways = [
        Scenario("back and forth, stereo", sim.back_and_forth(steps), sim.STEREO),
        Scenario("stop and go, stereo", sim.stop_and_go(steps), sim.STEREO),
        Scenario("circle, stereo", sim.circle(steps), sim.STEREO),
        Scenario("figure of eight, stereo", sim.figure_of_eight(turns * 125, turns), sim.STEREO),
        Scenario("back and forth, one camera, odometry", sim.back_and_forth(steps), sim.FRONT, "odometry"),
    ]
    ways = [replace(one, noise=_REAL_NOISE, sets=8) for one in ways]
    return [(one, replace(one, recent=8)) for one in ways]


def figures_of_eight(steps: int = 2000) -> list[Scenario]:
    """The long ones: exact depth, noisy depth and noisy poses."""
    exact = figure_of_eight(steps)
    return [
        exact,
        _with_noise(exact, "5 % depth noise", _DEPTH_NOISE),
        _with_noise(exact, "noisy poses too", _REAL_NOISE),
    ]


def figure_of_eight(steps: int = 2000, noise: sim.Noise | None = None) -> Scenario:
    """A stereo rig, 8 sets in the window, one turn every 125 steps."""
    way = sim.figure_of_eight(steps, turns=max(1, steps // 125))
    return Scenario(f"figure of eight, {steps} steps, 8 sets", way, sim.STEREO, noise=noise or sim.Noise(), sets=8)


def _prediction(window: sim.Window, source: str, metres_noise: float, rng: np.random.Generator) -> WindowPrediction:
    metres = stddev = None
    if source == "metric_model":
        value = window.metres_per_unit * math.exp(rng.normal() * metres_noise)
        metres, stddev = torch.tensor(value), torch.tensor(value * _METRES_STDDEV)
    first = len(window.views) - len(window.depth)
    return WindowPrediction(
        views=window.views,
        decoded=tuple(range(first, len(window.views))),
        depth=window.depth,
        depth_conf=torch.full_like(window.depth, 2.0),
        T_cam_world=window.T_cam_world,
        K=window.K,
        reference_index=None,
        colours=sim.colours(window).contiguous(),
        metres_per_unit=metres,
        metres_stddev=stddev,
    )


def _ranges(window: sim.Window) -> np.ndarray:
    """A few exact depths of the first newest view: (K, 4), see Tracker."""
    first = len(window.views) - len(window.depth)
    depth = sim.true_depth(window.T_world_cam[first])
    pixels = [(u, v) for u in (12, 24, 36) for v in (9, 18, 27)]
    return np.array([(0, u, v, depth[v, u]) for u, v in pixels], dtype=np.float64)


def _cloud_error(step: TrackedStep, T_world_odom: np.ndarray) -> float:
    """Median distance of the newest views' points in odom from the true surfaces, metres."""
    distances = []
    for view in step.newest:
        assert view.depth is not None
        v, u = np.mgrid[: view.depth.shape[0], : view.depth.shape[1]]
        x, y = (u - view.K_coarse[0, 2]) / view.K_coarse[0, 0], (v - view.K_coarse[1, 2]) / view.K_coarse[1, 1]
        points = (np.stack([x, y, np.ones_like(x)], -1) * view.depth[..., None]).reshape(-1, 3)
        T = T_world_odom @ view.T_odom_cam
        distances.append(sim.surface_distance(points @ T[:3, :3].T + T[:3, 3]))
    return float(np.median(np.concatenate(distances)))
