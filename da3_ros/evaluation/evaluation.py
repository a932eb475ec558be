"""One recording, or a part of one, evaluated: errors of what the pipeline or another program estimates."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from da3_ros.config import Config
from da3_ros.datatypes import CameraCalibration, Estimate, OutputRequest
from da3_ros.egress.estimates import FollowedPose
from da3_ros.errors import InputError
from da3_ros.evaluation.external import PictureStamps, external_frames
from da3_ros.evaluation.findings import Findings, RunFigures
from da3_ros.evaluation.ground_truth import GroundTruth
from da3_ros.evaluation.recorded_run import RecordedRun
from da3_ros.evaluation.relative_pose import pose_auc, relative_pose_errors
from da3_ros.evaluation.run_settings import run_settings
from da3_ros.evaluation.score import ConsistencyScore, DepthScore, EstimatedFrame, SeenFrame
from da3_ros.evaluation.settings import FOREVER_NS, WHOLE, EvaluationSettings, Span
from da3_ros.evaluation.sources import WindowPose, recorded_estimates, recorded_map
from da3_ros.evaluation.surface import SurfaceScore
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import read_trajectory
from da3_ros.evaluation.truth import depth_at_truth, read_poses
from da3_ros.geometry.clouds import unpack_points
from da3_ros.geometry.se3 import invert
from da3_ros.heap import keep_freed_memory
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_scan import RawMessage
from da3_ros.pipeline import Pipeline
from da3_ros.replay.background import Background
from da3_ros.replay.estimates import BagReplay, ClockReset, ReplayedEstimate, resolve
from da3_ros.replay.progress import recorded_time_bar

_NS = 1_000_000_000


class FrameWatcher(Protocol):
    """Who wants to see every frame that is scored: examples for the report, clouds, a Rerun recording."""

    def add(self, seen: SeenFrame) -> None:
        """The next frame."""


class SceneWatcher(Protocol):
    """Who wants to see where the robot is, and its map, both in the world of the estimates."""

    def add_body(self, frame: str, stamp_ns: int, T_world_body: np.ndarray) -> None:
        """The next pose of ``frame``."""

    def add_map(self, T_world_map: np.ndarray, points: np.ndarray, colours: np.ndarray) -> None:
        """A map (n, 3) with its colours (n, 3) uint8 RGB."""


class Evaluation:
    """One recording's truth, and what is scored against it.

    ``watchers`` are shown every frame, and ``scene`` robot and map. ``pipeline`` gives the pipeline to run (anew by
    default): it is called only where one is needed. On a terminal a bar shows the progress. Raises InputError for
    topics, files and frames that are not there.
    """

    def __init__(
        self,
        bag: Bag,
        config: Config,
        settings: EvaluationSettings,
        watchers: Sequence[FrameWatcher] = (),
        span: Span = WHOLE,
        pipeline: Callable[[Config], Any] | None = None,
        scene: SceneWatcher | None = None,
    ):
        self._bag, self._config, self._settings, self._watchers, self._span = bag, config, settings, watchers, span
        self._make_pipeline, self._scene = pipeline, scene
        self._started = 0.0  # of the run of the pipeline
        self._followed = FollowedPose(config)
        self._tolerance_ns = round(settings.tolerance_s * _NS)
        self._truth = GroundTruth(bag, config, settings, span)
        self._surface: SurfaceScore | None = None
        if settings.surface is not None:
            images = [resolve(config.image_topic(camera), settings.namespace) for camera in self._truth.depth_topics]
            self._surface = SurfaceScore(settings.surface, bag.count(images))
        runs = not (settings.estimates or settings.external)
        self._found = Findings(
            {}, run_settings(config, self._truth.evaluated_with(), runs), notes=self._truth.notes,
            left_out=self._truth.left_out,
        )  # fmt: skip
        self._found.consistency = {camera: ConsistencyScore() for camera in config.cameras}
        if settings.external_frame:
            self._truth.follow(settings.external_frame)
        if self._truth.poses is not None:
            self._found.truth, self._found.truth_frame = [self._truth.poses.trajectory], self._truth.poses.frame

    def run(self) -> dict[str, Any]:
        """All numbers."""
        return self.collect().summary(self._tolerance_ns)

    def collect(self) -> Findings:
        """What all numbers are made of."""
        found = self._found
        keep_freed_memory()
        # Scored beside the network, in the order of the frames; the network needs little of the processor on a GPU.
        scoring, comparing = Background("da3-score"), Background("da3-compare")
        try:
            for frame in self._frames():
                found.frames += 1
                comparing.do(found.consistency[frame.camera].add, frame)
                if self._scene is None:
                    scoring.do(self._score_depth, frame)
                else:  # it is told of frames and poses in turn
                    self._score_depth(frame)
            scoring.finish()
            comparing.finish()
        except BaseException:
            scoring.stop()
            comparing.stop()
            raise
        if found.figures is not None:
            found.figures.elapsed_s = time.perf_counter() - self._started
        found.surface = self._score_surface()
        found.lost.merge(self._bag.losses())
        found.notes += [self._bag.unchecked] if self._bag.unchecked else []
        return found

    def _frames(self) -> Iterator[EstimatedFrame]:
        if self._settings.external:
            return self._external(self._settings.external)
        if self._settings.estimates:
            return self._recorded(self._settings.estimates)
        return self._replayed()

    def _replayed(self) -> Iterator[EstimatedFrame]:
        pipeline = (self._make_pipeline or Pipeline)(self._config)
        replay = BagReplay(self._bag, self._config, pipeline, self._settings.namespace)
        names = frozenset(self._config.cameras)
        request = OutputRequest(depth=names, confidence=names if self._config.model.has_poses else frozenset(),
                                map_points=self._scene is not None)  # fmt: skip
        figures = self._found.figures = RunFigures()
        span = self._span
        first_ns, last_ns = max(span.start_ns, self._bag.start_ns), min(span.stop_ns, self._bag.end_ns)
        # Sets that begin before the end and are complete after it are of the next part: read on until they are.
        tail_ns = round((self._config.sync.timeout_s + self._config.sync.slop_s) * 2 * _NS)
        from_ns, to_ns = max(0, span.start_ns - span.warm_ns), min(span.stop_ns, FOREVER_NS - tail_ns) + tail_ns
        now_ns = 0
        # What had been dropped when this part began and when it ended: the rest is of the parts beside it.
        before: Counter[tuple[str, str]] | None = None if span.start_ns else Counter()
        until: Counter[tuple[str, str]] | None = None
        self._started = time.perf_counter()
        with recorded_time_bar(max(from_ns, self._bag.start_ns), last_ns) as bar:

            def seen(raw: RawMessage) -> None:
                nonlocal now_ns, before, until
                now_ns = max(now_ns, raw.receive_ns)
                if before is None and now_ns >= span.start_ns:
                    before = replay.dropped
                if until is None and now_ns >= span.stop_ns:
                    until = replay.dropped
                bar(raw.receive_ns)

            def counted(_: int) -> bool:
                """Never skips a set; counts those of this part."""
                figures.sets += span.start_ns <= now_ns < span.stop_ns
                return False

            for item in replay.run(request, from_ns, to_ns, skip=counted, seen=seen):
                if isinstance(item, ReplayedEstimate) and not figures.first_s:
                    figures.first_s = time.perf_counter() - self._started
                if isinstance(item, ClockReset):
                    self._start_piece()
                    self._followed = FollowedPose(self._config)
                elif isinstance(item, ReplayedEstimate) and span.start_ns <= item.receive_ns < span.stop_ns:
                    figures.estimates += 1
                    for stage, milliseconds in item.estimate.timings_ms.items():
                        figures.timings_ms.setdefault(stage, []).append(milliseconds)
                    yield from self._of_estimate(item.estimate)
        figures.recorded_s = (last_ns - first_ns) / _NS
        if before is not None:
            dropped = (replay.dropped if until is None else until) - before
            figures.dropped.update({f"{camera}: {reason}": n for (camera, reason), n in dropped.items()})
        self._found.source = {"source": "replay", **dict(pipeline.description)}
        self._found.notes += list(replay.notes.values())

    def _of_estimate(self, estimate: Estimate) -> Iterator[EstimatedFrame]:
        poses = {view.camera: view.T_odom_cam for view in estimate.views if view.newest}
        tracked = self._followed.of(estimate)
        if self._followed.anew:
            self._start_piece()
        if tracked is not None:
            T_odom_child, stamp_ns, child = tracked
            self._note_pose(stamp_ns, T_odom_child, child)
        mapping = estimate.mapping
        if self._scene is not None and mapping is not None and mapping.points is not None:
            self._scene.add_map(invert(mapping.T_map_odom), *unpack_points(mapping.points.data))
        self._score_window([WindowPose(view.frame_id, view.stamp_ns, view.T_odom_cam) for view in estimate.views])
        for output in estimate.outputs:
            if output.depth is not None:
                depth = output.depth
                if depth.dtype == np.uint16:
                    depth = np.where(depth > 0, depth * np.float32(1e-3), np.nan)
                yield EstimatedFrame(
                    output.camera, output.stamp_ns, depth, output.K, output.confidence, poses[output.camera]
                )

    def _score_window(self, views: Sequence[WindowPose]) -> None:
        """Relative poses of the views of one window, as the benchmark scores the views of one scene."""
        pairs = []
        for view in views:
            true = self._truth.pose(view.frame_id, view.stamp_ns)
            if view.T_odom_cam is not None and true is not None:
                pairs.append((view.T_odom_cam, true))
        if len(pairs) > 1:
            predicted, true_poses = (invert(np.stack(poses)) for poses in zip(*pairs, strict=True))
            self._found.windows.append(pose_auc(relative_pose_errors(predicted, true_poses)))

    def _recorded(self, path: Path) -> Iterator[EstimatedFrame]:
        recording = Bag([path])
        self._found.source = {"source": str(path), "estimates": 0}
        topic = resolve("odometry", self._settings.namespace)
        if topic in recording.topics:
            poses = read_poses(recording, topic)
            if poses.unusable:
                self._found.notes.append(f"{len(poses.unusable)} poses on {topic} are no rotation and finite place")
            for stamp_ns, T in zip(poses.trajectory.stamps_ns.tolist(), poses.trajectory.T_world_body, strict=True):
                self._note_pose(stamp_ns, T, poses.frame)
        if self._scene is not None:
            found_map = recorded_map(recording, self._config.frames, self._settings.namespace)
            if found_map is not None:
                self._scene.add_map(*found_map)
        run = RecordedRun(self._config.cameras, self._settings.namespace)
        for found in recorded_estimates(recording, self._config.cameras, self._settings.namespace, run):
            if isinstance(found, EstimatedFrame):
                self._found.source["estimates"] += 1
                yield found
            else:
                self._score_window(found)
        self._found.source |= run.summary()
        self._found.lost.merge(recording.losses())
        self._found.notes += [recording.unchecked] if recording.unchecked else []

    def _external(self, file: Path) -> Iterator[EstimatedFrame]:
        settings, camera = self._settings, self._config.cameras[0]
        pictures = PictureStamps(self._bag, resolve(self._config.image_topic(camera), settings.namespace))
        read = read_trajectory(file, pictures=pictures)
        poses = read.trajectory
        self._found.notes += read.notes(file)
        self._found.source = {"source": str(file), "poses": len(poses)}
        frame = settings.external_frame or (self._truth.poses.frame if self._truth.poses else "")
        for stamp_ns, T in zip(poses.stamps_ns.tolist(), poses.T_world_body, strict=True):
            self._note_pose(stamp_ns, T, frame)
        if settings.external_depth:
            if camera not in self._truth.calibrations:
                raise InputError(f"--external-depth needs a CameraInfo of camera '{camera}' in the recording")
            T_child_cam = self._truth.static(frame, self._truth.frame_ids[camera])
            yield from external_frames(
                settings.external_depth,
                settings.external_depth_scale,
                camera,
                self._truth.calibrations[camera],
                None if T_child_cam is None else Trajectory(poses.stamps_ns, poses.T_world_body @ T_child_cam),
                self._tolerance_ns,
                pictures,
            )
        self._found.notes += pictures.notes

    def _start_piece(self) -> None:
        """What comes is in another world than what was."""
        if self._found.poses[-1]:
            self._found.poses.append({})
            self._found.truth.append(self._found.truth[-1])

    def _note_pose(self, stamp_ns: int, T: np.ndarray, child: str) -> None:
        """Keep a pose as one of the frame that the truth is about."""
        if self._scene is not None:
            self._scene.add_body(child, stamp_ns, T)
        truth = self._truth.poses
        if truth is None:
            return
        if truth.frame and child != truth.frame:
            T_child_truth = self._truth.static(child, truth.frame)
            if T_child_truth is None:
                note = (
                    f"the true poses are of '{truth.frame}' and the estimated ones of '{child}', and no "
                    "transform connects them: give --pose-frame, or record /tf_static"
                )
                self._found.notes += [] if note in self._found.notes else [note]
                return
            T = T @ T_child_truth
        self._found.poses[-1][stamp_ns] = np.asarray(T, dtype=np.float64)

    def _score_depth(self, frame: EstimatedFrame) -> None:
        true = self._truth.depth(frame.camera, frame.stamp_ns)
        calibration = self._truth.calibrations.get(frame.camera)
        if calibration is None:  # the network's own intrinsics, of the same picture
            K = np.array(frame.K, dtype=np.float64)
            calibration = CameraCalibration(frame.depth.shape[1], frame.depth.shape[0], K)
        T_world_cam = self._truth.pose(self._truth.frame_ids.get(frame.camera, ""), frame.stamp_ns)
        if T_world_cam is not None:
            self._found.upward, self._found.looked = self._found.upward - T_world_cam[:3, 1], self._found.looked + 1
        for watcher in self._watchers:
            watcher.add(SeenFrame(frame, calibration, true, T_world_cam))
        if true is None:
            return
        score = self._found.depth.setdefault(frame.camera, DepthScore(self._settings.max_depth))
        score.add(frame, true, calibration)
        if self._surface is not None and frame.T_world_cam is not None and T_world_cam is not None:
            predicted = depth_at_truth(frame.depth, frame.K, true.shape, calibration)
            self._surface.add(predicted, true, calibration, frame.T_world_cam, T_world_cam)

    def _score_surface(self) -> dict[str, Any] | None:
        if self._surface is None:
            return None
        try:
            return self._surface.summary()
        except InputError as error:
            self._found.notes.append(f"no surface: {error}")
            return None
