"""Drives through a rendered hall and a network's own pipeline, beside the truth; ways are those of simulated_drives."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import CameraCalibration, Estimate, Frame, FrameSet, MapReport, OutputRequest, WindowPrediction
from da3_ros.errors import InputError
from da3_ros.evaluation import simulated_windows as sim
from da3_ros.evaluation.drive_score import MOVES_M, DriveResult, DriveScore, starting_at
from da3_ros.evaluation.simulated_drives import Scenario, scenarios
from da3_ros.evaluation.trajectory import Trajectory, absolute_error
from da3_ros.geometry.se3 import T_from, invert, transform_points
from da3_ros.pipeline import Pipeline
from da3_ros.training import scenes

WIDTH, HEIGHT = 320, 240
PROCESS_RES = 224  # as da3-ros demo
SOURCES = ("auto", "rig", "odometry", "range")
_FLOOR = T_from(np.eye(3), np.array([0.0, 0.0, 0.5]))  # the hall's floor is at 0, and lies 0.5 m below the base
_GRID = 8  # pixels of the depth image from one that is compared with the truth to the next
_CLOUD = 256  # points of a step
_RANGES = [(x, y) for x in (0.25, 0.5, 0.75) for y in (0.25, 0.5, 0.75)]  # where in a picture
_SAY_EVERY_S = 15.0
_ENDING = 60  # steps after the last one, in which windows and solutions that are under way come to their end
_FEWEST_KEYFRAMES = 3  # that a similarity is fitted to


@dataclass(frozen=True)
class NetworkResult(DriveResult):
    """Of one drive with one setting of ``scale.source``.

    ``metres``: whether lengths were metres; else they are here brought to the truth by the median of all depth, once
    for the drive, and the body is the camera that stands for the base. ``way_percent``: by how much displacements over
    a second are too long (or, below 0, too short) along the true ones. ``silent``: steps without a pose of the base.
    ``sources``: steps in which each was taken in, ``rejected`` likewise. ``map_ate_m``: of the poses in ``map`` at
    their own time, as ``ate_scaled_m``, and ``keyframe_ate_m`` of the map's keyframes at the end. ``loops``: closed
    ones, of the windows across two places that the network was shown; ``refused``: for which reason how many were not.
    """

    source: str = ""
    metres: bool = False
    way_percent: float = math.nan
    silent: int = 0
    sources: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    map_ate_m: float = math.nan
    keyframe_ate_m: float = math.nan
    loops: str = ""
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rendered:
    """What a rig sees at one step: ``images`` (H, W, 3) uint8 and ``depth`` (H, W) float32 metres by camera."""

    T_world_base: np.ndarray
    images: Mapping[str, np.ndarray]
    depth: Mapping[str, np.ndarray]


class Hall:
    """A furnished hall of the size of the simulated one, and what a rig on its way sees of it."""

    def __init__(self, device: torch.device, seed: int = 0):
        size = float(sim.HALL[0]), float(sim.HALL[1]), float(sim.HALL[2]) + _FLOOR[2, 3]
        # Drawn on the CPU, so that all devices show the same hall.
        self._rooms = scenes.make_hall(size, torch.Generator().manual_seed(seed)).to(device)
        self._light = scenes.bake(self._rooms, torch.Generator(device).manual_seed(seed))
        self._at_once = 64 if device.type == "cuda" else 4  # pictures

    def pictures(self, scenario: Scenario) -> Iterator[Rendered]:
        """Step by step; few are there at a time."""
        K = torch.from_numpy(calibration().K).float().to(self._rooms.device)
        steps = max(1, self._at_once // len(scenario.rig))
        for first in range(0, len(scenario.way), steps):
            bases = [_FLOOR @ T for T in scenario.way[first : first + steps]]
            present = [
                [camera for camera in scenario.rig if camera not in scenario.missing.get(first + number, ())]
                for number in range(len(bases))
            ]
            poses = [T @ scenario.rig[camera] for T, names in zip(bases, present, strict=True) for camera in names]
            T_world_cam = torch.from_numpy(np.stack(poses)).float().to(K.device)
            room = torch.zeros(len(poses), dtype=torch.int64, device=K.device)
            cameras = scenes.Cameras(room, K.expand(len(poses), 3, 3), T_world_cam, WIDTH, HEIGHT)
            seen = scenes.render(self._rooms, self._light, cameras)
            images, depth = iter(seen.image.cpu().numpy()), iter(seen.depth.cpu().numpy())
            for T, names in zip(bases, present, strict=True):
                yield Rendered(T, {name: next(images) for name in names}, {name: next(depth) for name in names})

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Of points (n, 3) in the world from the nearest surface, (n,) metres."""
        given = torch.from_numpy(points).float().to(self._rooms.device)
        return np.concatenate([scenes.surface_distance(self._rooms, part).cpu().numpy() for part in given.split(4096)])


def calibration() -> CameraCalibration:
    """Of every camera: the field of view of the simulated ones."""
    focal = WIDTH * sim.FOCAL / sim.WIDTH
    K = np.array([[focal, 0, (WIDTH - 1) / 2], [0, focal, (HEIGHT - 1) / 2], [0, 0, 1]])
    return CameraCalibration(WIDTH, HEIGHT, K)


def drive(
    hall: Hall, scenario: Scenario, sources: Sequence[str], values: Mapping[str, Any], seed: int = 0
) -> list[NetworkResult]:
    """The results of one drive with each of ``sources`` as scale.source, all from the same pictures.

    ``values``: parameters of the pipeline. Figures are NaN where the base never had a pose. Raises ConfigError where
    parameters do not go together.
    """
    runs = [_Run(scenario, source, values, seed) for source in sources if source != "rig" or len(scenario.rig) > 1]
    said = time.monotonic()
    for step, rendered in enumerate(hall.pictures(scenario)):
        for run in runs:
            run.step(step, rendered)
        if time.monotonic() - said > _SAY_EVERY_S:
            said = time.monotonic()
            print(f"{scenario.name}: {step + 1} of {len(scenario.way)} steps", file=sys.stderr, flush=True)
    return [run.result(hall) for run in runs]


def nothing(name: str, steps: int, silent: int) -> dict[str, Any]:
    """Fields of a DriveResult where too few steps had a pose to tell anything."""
    unknown: dict[str, Any] = dict.fromkeys(DriveResult.__dataclass_fields__, math.nan)
    return {**unknown, "scenario": name, "steps": steps, "statuses": {"no pose": silent}}


@dataclass(frozen=True)
class _Step:
    """What is kept of a step that has a pose of the base."""

    stamp_ns: int
    estimate: np.ndarray  # T_odom_base
    T_map_odom: np.ndarray
    T_world_base: np.ndarray
    T_world_level: np.ndarray  # the base's axes at the place of its camera, where it is without metres
    metres: bool
    longer: float  # predicted depth over the true one, median
    points: np.ndarray  # (n, 3) in odom
    covariance: np.ndarray | None
    status: str
    ms: float


class _Run:
    """One setting of scale.source."""

    def __init__(self, scenario: Scenario, source: str, values: Mapping[str, Any], seed: int):
        self._scenario, self._source = scenario, source
        config = settings(scenario, source, values)
        wrong = scenario.noise.outliers
        self._pipeline = _WithWrongDepth(config, wrong, seed) if wrong else Pipeline(config)
        self._pipeline.set_rig(scenario.rig)
        self._request = OutputRequest(depth=frozenset(scenario.rig), merged_points=True)
        self._random = np.random.default_rng(seed)
        self._steps: list[_Step] = []
        self._silent = 0
        self._used: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()
        self._mapped = False

    def step(self, number: int, rendered: Rendered) -> None:
        stamp_ns = 1_000_000_000 + round(number * 1e9 / sim.RATE_HZ)
        given = rendered.T_world_base if self._source == "odometry" else None
        frames = tuple(
            Frame(name, stamp_ns, image, "rgb8", f"{name}_optical_frame", calibration(), given)
            for name, image in rendered.images.items()
        )
        ranges = _ranges(rendered, self._scenario.rig) if self._source == "range" else None
        begin = time.perf_counter()
        estimate = self._pipeline.step(FrameSet(stamp_ns, frames, ranges), self._request)
        ms = (time.perf_counter() - begin) * 1e3
        assert estimate is not None and estimate.tracking is not None
        self._used.update(estimate.tracking.scale_sources)
        self._rejected.update(estimate.tracking.scale_rejected)
        self._mapped |= estimate.mapping is not None
        if estimate.T_odom_base is None:
            self._silent += 1
            return
        first = next(iter(self._scenario.rig.values()))
        T_map_odom = np.eye(4) if estimate.mapping is None else estimate.mapping.T_map_odom
        self._steps.append(
            _Step(
                stamp_ns, estimate.T_odom_base, T_map_odom, rendered.T_world_base,
                rendered.T_world_base @ T_from(np.eye(3), first[:3, 3]), math.isfinite(estimate.scale.metres_per_unit),
                _longer(estimate, rendered), self._points(estimate), estimate.tracking.covariance,
                estimate.tracking.status, ms,
            )
        )  # fmt: skip

    def _end(self) -> tuple[MapReport, tuple[np.ndarray, np.ndarray]]:
        """What the drive leaves behind: figures, and the keyframes' stamps (K,) and poses (K, 4, 4)."""
        if not self._mapped:
            return MapReport(), (np.empty(0, dtype=np.int64), np.empty((0, 4, 4)))
        mapper = self._pipeline.mapper
        for _ in range(_ENDING):
            mapper.step(None)
        return mapper.report(), mapper.keyframe_poses()

    def _points(self, estimate: Estimate) -> np.ndarray:
        merged = estimate.merged_points
        if merged is None or not merged.data.shape[1]:
            return np.empty((0, 3))
        points = merged.data[0, :, :12].copy().view(np.float32)
        return points[self._random.choice(len(points), min(_CLOUD, len(points)), replace=False)]

    def result(self, hall: Hall) -> NetworkResult:
        report, keyframes = self._end()
        self._pipeline.close()
        metres = any(step.metres for step in self._steps)
        kept = [step for step in self._steps if step.metres] if metres else self._steps
        told: dict[str, Any] = {
            "source": self._source, "metres": metres, "silent": self._silent, "sources": dict(self._used),
            "rejected": dict(self._rejected), "loops": f"{report.loops} of {report.windows}",
            "refused": dict(report.refused),
        }  # fmt: skip
        if len(kept) < 2:
            return NetworkResult(**{**nothing(self._scenario.name, len(kept), self._silent), **told})
        longer = np.array([step.longer for step in kept])
        unit = 1.0 if metres else 1.0 / float(np.nanmedian(longer))
        estimated, on_map = (_scaled(np.stack(poses), unit) for poses in (
            [step.estimate for step in kept], [step.T_map_odom @ step.estimate for step in kept]
        ))  # fmt: skip
        world = np.stack([step.T_world_base if metres else step.T_world_level for step in kept])
        T_world_odom = world[0] @ invert(estimated[0])
        stamps = np.array([step.stamp_ns for step in kept], dtype=np.int64)
        cloud_m = [
            float(np.median(hall.distance(transform_points(T_world_odom, unit * step.points))))
            if len(step.points) else math.nan
            for step in kept
        ]  # fmt: skip
        score = DriveScore(
            self._scenario.name, stamps, estimated, starting_at(world, estimated[0]),
            [step.covariance for step in kept], np.abs(unit * longer - 1), cloud_m, [step.ms for step in self._steps],
            [step.status for step in self._steps] + ["no pose"] * self._silent, round(sim.RATE_HZ),
        )  # fmt: skip
        found = score.result()
        moves = found.distance_m > MOVES_M
        return NetworkResult(
            **{name: getattr(found, name) for name in DriveResult.__dataclass_fields__},
            **told,
            way_percent=way_percent(estimated, world, score.second) if moves else math.nan,
            map_ate_m=replace(score, estimated=on_map).ate_scaled() if moves else math.nan,
            keyframe_ate_m=_keyframe_ate(*keyframes, dict(zip(stamps.tolist(), world, strict=True))),
        )


def network_scenarios(steps: int) -> list[Scenario]:
    """The drives that a network is shown, each of so many ``steps``; which sources it has is for ``drive`` to say."""
    named = {one.name: one for one in scenarios(steps)}
    chosen = (
        "straight, stereo", "turning (circle), stereo", "pure rotation, stereo", "pure rotation about one camera",
        "stop and go, stereo", "4 cameras without overlap", "one camera, nothing metric",
        "a camera drops out and returns", "20 % outlier depth, stereo",
    )  # fmt: skip
    drives = [named[name] for name in chosen]
    return [replace(one, name="one camera", rig=sim.FRONT) if "nothing metric" in one.name else one for one in drives]


def settings(scenario: Scenario, source: str, values: Mapping[str, Any]) -> Config:
    """The pipeline's parameters for a drive with ``source`` as scale.source; ``values`` come before all others."""
    topics = {"odometry": {"scale.odometry_topic": "odometry"}, "range": {"scale.range_topic": "range"}}
    return from_flat(
        {
            "cameras": list(scenario.rig),
            "model.process_res": PROCESS_RES,
            "model.execution": "uncompiled",
            "window.sets": scenario.sets,
            "window.keyframe_recent": scenario.recent,
            "scale.source": source,
            **topics.get(source, {}),
            **values,
        }
    )


def _keyframe_ate(stamps: np.ndarray, poses: np.ndarray, world: Mapping[int, np.ndarray]) -> float:
    """Metres, after the best similarity; NaN where that is not determined, as on a line. ``world``: truth by stamp."""
    known = np.array([stamp in world for stamp in stamps.tolist()], dtype=bool)
    if known.sum() < _FEWEST_KEYFRAMES:
        return math.nan
    true = np.stack([world[stamp] for stamp in stamps[known].tolist()])
    try:
        return absolute_error(Trajectory(stamps[known], poses[known]), Trajectory(stamps[known], true), "sim3").rmse
    except InputError:
        return math.nan


def way_percent(estimated: np.ndarray, true: np.ndarray, delta: int) -> float:
    """By how much displacements over ``delta`` poses (n, 4, 4), each in its body's axes, are too long along the true
    ones; noise lengthens them not."""
    delta = min(delta, len(true) - 1)
    steps = [
        ((T[delta:, :3, 3] - T[:-delta, :3, 3])[:, None] @ T[:-delta, :3, :3])[:, 0] for T in (estimated, true)
    ]  # fmt: skip
    return 100 * (float((steps[0] * steps[1]).sum() / np.square(steps[1]).sum()) - 1)


class _WithWrongDepth(Pipeline):
    """A share of the pixels of every depth map that the network gives is wrong, by a factor from 0.1 to 3."""

    def __init__(self, config: Config, share: float, seed: int):
        super().__init__(config)
        predict, random = self._stream.step, torch.Generator(self.device).manual_seed(seed)

        def step(*given: Any, **named: Any) -> WindowPrediction | None:
            prediction = predict(*given, **named)
            if prediction is not None:
                # In place: steps that are graphs read their inputs where they lie.
                depth = prediction.depth
                chosen, factor = torch.rand(2, *depth.shape, generator=random, device=depth.device)
                depth.mul_(torch.where(chosen < share, 0.1 + 2.9 * factor, 1.0).to(depth.dtype))
            return prediction

        self._stream.step = step  # type: ignore[method-assign]


def _ranges(rendered: Rendered, rig: Mapping[str, np.ndarray]) -> np.ndarray:
    """Points (K, 3) of the base's frame that a range sensor at the first camera there would measure."""
    name, depth = next(iter(rendered.depth.items()))
    u, v = (np.array(_RANGES) * (WIDTH, HEIGHT)).astype(int).T
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(calibration().K).T
    return transform_points(rig[name], rays * depth[v, u, None])


def _longer(estimate: Estimate, rendered: Rendered) -> float:
    """Median of predicted over true depth, all cameras together."""
    K_true, ratios = calibration().K, []
    for output in estimate.outputs:
        assert output.depth is not None
        v, u = np.mgrid[_GRID // 2 : output.depth.shape[0] : _GRID, _GRID // 2 : output.depth.shape[1] : _GRID]
        pixel = K_true @ np.linalg.inv(output.K) @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])
        column, row = np.rint(pixel[:2]).astype(int)
        inside = (column >= 0) & (column < WIDTH) & (row >= 0) & (row < HEIGHT)
        true = rendered.depth[output.camera][row[inside], column[inside]]
        ratios.append(output.depth[v, u].ravel()[inside] / true)
    return float(np.nanmedian(np.concatenate(ratios)))


def _scaled(T: np.ndarray, unit: float) -> np.ndarray:
    scaled = T.copy()
    scaled[:, :3, 3] *= unit
    return scaled
