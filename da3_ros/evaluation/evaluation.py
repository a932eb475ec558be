"""One recording evaluated: the truth that there is, and errors of what the pipeline or another program estimates."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from da3_ros.config import Config
from da3_ros.datatypes import CameraCalibration, Estimate, OutputRequest
from da3_ros.egress.estimates import tracked_pose
from da3_ros.errors import InputError
from da3_ros.evaluation.relative_pose import pose_auc, relative_pose_errors
from da3_ros.evaluation.report_examples import DepthExamples
from da3_ros.evaluation.score import ConsistencyScore, DepthScore, EstimatedFrame, score_trajectory
from da3_ros.evaluation.sources import external_frames, recorded_frames
from da3_ros.evaluation.surface import Protocol, SurfaceScore
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import read_trajectory
from da3_ros.evaluation.truth import DEPTH_TOPIC, DepthTruth, TruePoses, depth_at_truth, pose_topics, read_poses
from da3_ros.geometry.se3 import invert
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_scan import RawMessage
from da3_ros.ingest.from_msg import calibration_from_info
from da3_ros.ingest.transforms import STATIC_TOPIC, TRANSFORM_TYPES, TransformTree
from da3_ros.pipeline import Pipeline
from da3_ros.replay.estimates import BagReplay, ReplayedEstimate, resolve

_NS = 1_000_000_000


@dataclass(frozen=True)
class EvaluationSettings:
    """``estimates``: a recording of the node; ``external``: a trajectory file of another program, with its depth files
    (``external_depth``) of the first camera; neither: the pipeline is run.

    ``poses`` and ``pose_topic``: where the truth is, if not in a topic with ground_truth in its name; ``pose_frame``:
    whose poses those are, if their messages do not say. ``depth_topics``: camera -> topic, if not
    ``ground_truth/depth`` beside its images. ``surface``: fuse and compare surfaces too (Open3D).
    """

    namespace: str = ""
    estimates: Path | None = None
    external: Path | None = None
    external_depth: Path | None = None
    external_depth_scale: float = 1000.0
    poses: Path | None = None
    pose_topic: str | None = None
    pose_frame: str | None = None
    depth_topics: Mapping[str, str] = field(default_factory=dict)
    max_depth: float = float("inf")
    tolerance_s: float = 0.02
    surface: Protocol | None = None


class Evaluation:
    """One recording's truth, and what is scored against it.

    ``examples`` is shown every frame. Raises InputError for topics, files and frames that are not there.
    """

    def __init__(self, bag: Bag, config: Config, settings: EvaluationSettings, examples: DepthExamples | None = None):
        self._bag, self._config, self._settings, self._examples = bag, config, settings, examples
        self._tolerance_ns = round(settings.tolerance_s * _NS)
        self._notes: list[str] = []
        self._frame_ids: dict[str, str] = {}
        self._calibrations = self._read_calibrations()
        self._tree = self._read_transforms()
        self._depth_topics = self._find_depth_topics()
        self._truth = self._read_poses()
        self._depth: dict[str, DepthScore] = {}
        self._consistency = {camera: ConsistencyScore() for camera in config.cameras}
        self._true_depth = {
            camera: DepthTruth(bag, topic, self._tolerance_ns) for camera, topic in self._depth_topics.items()
        }
        self._windows: list[dict[int, float]] = []  # AUC by threshold
        self._surface: SurfaceScore | None = None
        if settings.surface is not None:
            images = [resolve(config.image_topic(camera), settings.namespace) for camera in self._depth_topics]
            self._surface = SurfaceScore(settings.surface, bag.count(images))
        self._poses: dict[int, np.ndarray] = {}  # of the frame of the truth, by stamp
        self._run: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """All numbers."""
        count = 0
        for frame in self._frames():
            count += 1
            self._consistency[frame.camera].add(frame)
            self._score_depth(frame)
        trajectory = None
        stamps = sorted(self._poses)
        if self._truth is not None and len(stamps) > 1:
            estimate = Trajectory(np.array(stamps, dtype=np.int64), np.stack([self._poses[s] for s in stamps]))
            trajectory = score_trajectory(estimate, self._truth.trajectory, self._tolerance_ns)
            trajectory["frame"] = self._truth.frame
        elif self._truth is not None:
            self._notes.append(
                f"there are {len(stamps)} estimated poses of {self._truth.frame or 'the truth'}: no errors"
            )
        return {
            "frames": count,
            "depth": {camera: score.summary() for camera, score in self._depth.items()},
            "trajectory": trajectory,
            "consistency": {camera: score.summary() for camera, score in self._consistency.items()},
            "windows": self._summarize_windows(),
            "surface": self._score_surface(),
            "run": self._run,
            "lost": self._bag.lost,
            "notes": self._notes,
        }

    def _frames(self) -> Iterator[EstimatedFrame]:
        if self._settings.external:
            return self._external(self._settings.external)
        if self._settings.estimates:
            return self._recorded(self._settings.estimates)
        return self._replayed()

    def _replayed(self) -> Iterator[EstimatedFrame]:
        pipeline = Pipeline(self._config)
        replay = BagReplay(self._bag, self._config, pipeline, self._settings.namespace)
        names = frozenset(self._config.cameras)
        request = OutputRequest(depth=names, confidence=names if self._config.model.has_poses else frozenset())
        timings: dict[str, list[float]] = {}
        started, steps = time.perf_counter(), 0
        with tqdm(total=self._bag.count(replay.topics), unit="message", disable=not sys.stderr.isatty()) as bar:

            def seen(_: RawMessage) -> None:
                bar.update()

            for item in replay.run(request, seen=seen):
                if isinstance(item, ReplayedEstimate):
                    steps += 1
                    for stage, milliseconds in item.estimate.timings_ms.items():
                        timings.setdefault(stage, []).append(milliseconds)
                    yield from self._of_estimate(item.estimate)
        elapsed_s = time.perf_counter() - started
        self._run = {
            "source": "replay", **dict(pipeline.description), "sets": replay.sets, "estimates": steps,
            "rate_hz": steps / elapsed_s, "recorded_s": (self._bag.end_ns - self._bag.start_ns) / _NS,
            "latency_ms": {stage: _percentiles(values) for stage, values in timings.items()},
            "dropped": {f"{camera}: {reason}": n for (camera, reason), n in sorted(replay.dropped.items())},
        }  # fmt: skip
        self._notes += list(replay.notes.values())

    def _of_estimate(self, estimate: Estimate) -> Iterator[EstimatedFrame]:
        poses = {view.camera: view.T_odom_cam for view in estimate.views if view.newest}
        tracked = tracked_pose(estimate, self._config)
        if tracked is not None:
            T_odom_child, stamp_ns, child = tracked
            self._note_pose(stamp_ns, T_odom_child, child)
        self._score_window(estimate)
        for output in estimate.outputs:
            if output.depth is not None:
                depth = output.depth
                if depth.dtype == np.uint16:
                    depth = np.where(depth > 0, depth * np.float32(1e-3), np.nan)
                yield EstimatedFrame(
                    output.camera, output.stamp_ns, depth, output.K, output.confidence, poses[output.camera]
                )

    def _score_window(self, estimate: Estimate) -> None:
        """Relative poses of the views of one window, as the benchmark scores the views of one scene."""
        pairs = []
        for view in estimate.views:
            true = self._true_pose(view.frame_id, view.stamp_ns)
            if view.T_odom_cam is not None and true is not None:
                pairs.append((view.T_odom_cam, true))
        if len(pairs) > 1:
            predicted, true_poses = (invert(np.stack(poses)) for poses in zip(*pairs, strict=True))
            self._windows.append(pose_auc(relative_pose_errors(predicted, true_poses)))

    def _recorded(self, path: Path) -> Iterator[EstimatedFrame]:
        recording = Bag([path])
        self._run = {"source": str(path), "estimates": 0}
        topic = resolve("odometry", self._settings.namespace)
        if topic in recording.topics:
            poses = read_poses(recording, topic)
            for stamp_ns, T in zip(poses.trajectory.stamps_ns.tolist(), poses.trajectory.T_world_body, strict=True):
                self._note_pose(stamp_ns, T, poses.frame)
        for frame in recorded_frames(recording, self._config.cameras, self._settings.namespace):
            self._run["estimates"] += 1
            yield frame
        self._notes += recording.lost

    def _external(self, file: Path) -> Iterator[EstimatedFrame]:
        poses = read_trajectory(file)
        self._run = {"source": str(file), "poses": len(poses)}
        frame = self._truth.frame if self._truth else ""
        for stamp_ns, T in zip(poses.stamps_ns.tolist(), poses.T_world_body, strict=True):
            self._note_pose(stamp_ns, T, frame)  # taken to be of the same frame as the truth
        if self._settings.external_depth:
            camera = self._config.cameras[0]
            if camera not in self._calibrations:
                raise InputError(f"--external-depth needs a CameraInfo of camera '{camera}' in the recording")
            T_child_cam = self._tree.lookup(frame, self._frame_ids[camera])
            yield from external_frames(
                self._settings.external_depth,
                self._settings.external_depth_scale,
                camera,
                self._calibrations[camera],
                None if T_child_cam is None else Trajectory(poses.stamps_ns, poses.T_world_body @ T_child_cam),
                self._tolerance_ns,
            )

    def _note_pose(self, stamp_ns: int, T: np.ndarray, child: str) -> None:
        """Keep a pose as one of the frame that the truth is about."""
        if self._truth is None:
            return
        if self._truth.frame and child != self._truth.frame:
            T_child_truth = self._tree.lookup(child, self._truth.frame)
            if T_child_truth is None:
                note = (
                    f"the true poses are of '{self._truth.frame}' and the estimated ones of '{child}', and no "
                    "transform connects them: give --pose-frame, or record /tf_static"
                )
                self._notes += [] if note in self._notes else [note]
                return
            T = T @ T_child_truth
        self._poses[stamp_ns] = np.asarray(T, dtype=np.float64)

    def _read_transforms(self) -> TransformTree:
        tree = TransformTree()
        for name, topic in self._bag.topics.items():
            if topic.type in TRANSFORM_TYPES and name.rpartition("/")[2] == STATIC_TOPIC:
                for found in self._bag.messages([name]):
                    tree.add(found.message)
        return tree

    def _score_depth(self, frame: EstimatedFrame) -> None:
        truth = self._true_depth.get(frame.camera)
        true = None if truth is None else truth.at(frame.stamp_ns)
        calibration = self._calibrations.get(frame.camera)
        if calibration is None:  # the network's own intrinsics, of the same picture
            K = np.array(frame.K, dtype=np.float64)
            calibration = CameraCalibration(frame.depth.shape[1], frame.depth.shape[0], K)
        if self._examples is not None:
            self._examples.add(frame, true, calibration)
        if true is None:
            return
        self._depth.setdefault(frame.camera, DepthScore(self._settings.max_depth)).add(frame, true, calibration)
        T_world_cam = self._true_pose(self._frame_ids.get(frame.camera, ""), frame.stamp_ns)
        if self._surface is not None and frame.T_world_cam is not None and T_world_cam is not None:
            predicted = depth_at_truth(frame.depth, frame.K, true.shape, calibration)
            self._surface.add(predicted, true, calibration, frame.T_world_cam, T_world_cam)

    def _true_pose(self, frame_id: str, stamp_ns: int) -> np.ndarray | None:
        """T_world_cam of the camera with ``frame_id``, from the truth nearest in time; None where it is not known."""
        if self._truth is None:
            return None
        T_world_truth = self._truth.trajectory.nearest(stamp_ns, self._tolerance_ns)
        T_truth_cam = self._tree.lookup(self._truth.frame, frame_id)
        return None if T_world_truth is None or T_truth_cam is None else T_world_truth @ T_truth_cam

    def _summarize_windows(self) -> dict[str, Any] | None:
        if not self._windows:
            return None
        auc = {threshold: float(np.mean([each[threshold] for each in self._windows])) for threshold in self._windows[0]}
        return {"count": len(self._windows), "auc": auc}

    def _score_surface(self) -> dict[str, Any] | None:
        if self._surface is None:
            return None
        try:
            return self._surface.summary()
        except InputError as error:
            self._notes.append(f"no surface: {error}")
            return None

    def _find_depth_topics(self) -> dict[str, str]:
        named = dict(self._settings.depth_topics)
        unknown = sorted(set(named) - set(self._config.cameras))
        if unknown:
            raise InputError(
                f"there is no camera '{unknown[0]}' for a depth topic: there are {', '.join(self._config.cameras)}"
            )
        for camera in self._config.cameras:
            folder = resolve(self._config.image_topic(camera), self._settings.namespace).removesuffix("/compressed")
            topic = f"{folder.rpartition('/')[0]}/{DEPTH_TOPIC}"
            if topic in self._bag.topics:
                named.setdefault(camera, topic)
        if not named:
            self._notes.append("there is no true depth: no errors of depth")
        return named

    def _read_poses(self) -> TruePoses | None:
        settings = self._settings
        if settings.poses:
            return TruePoses(read_trajectory(settings.poses), settings.pose_frame or "")
        topic = settings.pose_topic or next(pose_topics(self._bag), None)
        if topic is None:
            self._notes.append("there are no true poses: no errors of poses")
            return None
        found = read_poses(self._bag, topic)
        return TruePoses(found.trajectory, settings.pose_frame or found.frame)

    def _read_calibrations(self) -> dict[str, CameraCalibration]:
        found = {}
        for camera in self._config.cameras:
            topic = self._config.camera_info_topic(camera)
            resolved = None if topic is None else resolve(topic, self._settings.namespace)
            if resolved in self._bag.topics:
                first = next(self._bag.messages([resolved]), None)
                if first is not None:
                    self._frame_ids[camera] = (
                        self._config.camera_config(camera).frame_id or first.message.header.frame_id
                    )
                    rectified = self._config.camera_config(camera).rectified
                    found[camera] = calibration_from_info(first.message, camera, rectified)
        return found


def _percentiles(values: list[float]) -> dict[str, float]:
    return {"p50": float(np.percentile(values, 50)), "p95": float(np.percentile(values, 95)), "max": float(max(values))}
