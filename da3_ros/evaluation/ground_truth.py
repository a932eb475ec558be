"""All that a recording says of the truth: calibrations, where the cameras stand, true poses and true depth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from da3_ros.config import Config
from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation.cloud_truth import CLOUD, CloudDepth
from da3_ros.evaluation.external import PictureStamps
from da3_ros.evaluation.settings import FOREVER_NS, WHOLE, EvaluationSettings, Span
from da3_ros.evaluation.stamped import StampedMessages
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.trajectory_files import read_trajectory
from da3_ros.evaluation.truth import DEPTH_TOPIC, DepthTruth, TruePoses, pose_topics, read_poses, read_transforms
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_cameras import IMAGE
from da3_ros.ingest.from_msg import calibration_from_info
from da3_ros.ingest.remarks import Remarks
from da3_ros.ingest.transforms import STATIC_TOPIC, TRANSFORM_TYPES, TransformTree
from da3_ros.replay.estimates import resolve

_NS = 1_000_000_000
_SLACK_NS = 10 * _NS  # of poses around a part of a recording


class GroundTruth:
    """The truth in ``bag`` for the cameras of ``config``.

    ``notes``: sentences about what is not known, and ``left_out`` those about poses that are none.

    ``calibrations`` and ``frame_ids`` by camera; ``poses``: the true ones, None where there are none, and the topic,
    transform or file ``pose_source`` that they are from. Raises InputError for topics and files that are named and not
    there.
    """

    def __init__(self, bag: Bag, config: Config, settings: EvaluationSettings, span: Span):
        self._bag, self._config, self._settings, self._span = bag, config, settings, span
        self._tolerance_ns = round(settings.tolerance_s * _NS)
        self.notes: list[str] = []
        self.left_out = Remarks()
        self.frame_ids: dict[str, str] = {}
        self.calibrations = self._read_calibrations()
        self._tree = self._read_transforms()
        self.pose_source: str | None = None
        self.poses = self._read_poses()
        self.depth_topics = self._find_depth_topics()
        self._depth = {camera: DepthTruth(self._messages(topic, IMAGE)) for camera, topic in self.depth_topics.items()}
        self._clouds = self._open_clouds()
        if not self._depth and not self._clouds:
            self.notes.append("there is no true depth: no errors of depth")

    def evaluated_with(self) -> dict[str, Any]:
        """Tolerance, limit of depth, and where the truth is from, as in metrics.json."""
        settings = self._settings
        clouds = {camera: cloud.topic for camera, cloud in self._clouds.items()}
        found: dict[str, Any] = {
            "tolerance_s": settings.tolerance_s,
            "max_depth_m": settings.max_depth,
            "true_poses": self.pose_source,
            "true_depth": dict(sorted({**self.depth_topics, **clouds}.items())),
        }
        if settings.external_frame:
            found["external_frame"] = settings.external_frame
        if settings.external_depth:
            found |= {"depth": str(settings.external_depth), "units_per_metre": settings.external_depth_scale}
        return found

    def depth(self, camera: str, stamp_ns: int) -> np.ndarray | None:
        """True depth (H, W) at the pixels of the camera's picture, NaN where there is none; None where nothing is
        known. Stamps of one camera must not decrease from call to call."""
        if camera in self._depth:
            return self._depth[camera].at(stamp_ns)
        if camera in self._clouds:
            return self._clouds[camera].at(stamp_ns, self.frame_ids[camera], self.calibrations[camera])
        return None

    def pose(self, frame_id: str, stamp_ns: int) -> np.ndarray | None:
        """T_world_frame (4, 4), from the true pose nearest in time; None where it is not known."""
        if self.poses is None:
            return None
        T_world_tracked = self.poses.trajectory.nearest(stamp_ns, self._tolerance_ns)
        T_tracked_frame = self.static(self.poses.frame, frame_id)
        return None if T_world_tracked is None or T_tracked_frame is None else T_world_tracked @ T_tracked_frame

    def follow(self, frame: str) -> None:
        """Make the true poses those of ``frame``, where /tf_static connects it with what they are of.

        It is the truth that is moved, since its lengths are metres as those of /tf_static: an estimate's may not be.
        """
        if self.poses is None or self.poses.frame == frame:
            return
        T_tracked_frame = self.static(self.poses.frame, frame)
        if T_tracked_frame is not None:
            trajectory = self.poses.trajectory
            moved = Trajectory(trajectory.stamps_ns, trajectory.T_world_body @ T_tracked_frame)
            self.poses = replace(self.poses, trajectory=moved, frame=frame)

    def static(self, target: str, source: str) -> np.ndarray | None:
        """T_target_source (4, 4) by /tf_static; None where nothing connects the two."""
        return self._tree.lookup(target, source)

    def _messages(self, topic: str, kind: str) -> StampedMessages:
        return StampedMessages(self._bag, topic, kind, self._tolerance_ns, self._span.start_ns, self._span.stop_ns)

    def _read_transforms(self) -> TransformTree:
        tree = TransformTree()
        for name, topic in self._bag.topics.items():
            if topic.type in TRANSFORM_TYPES and name.rpartition("/")[2] == STATIC_TOPIC:
                for found in self._bag.messages([name]):
                    tree.add(found.message)
        return tree

    def _read_poses(self) -> TruePoses | None:
        settings, span = self._settings, self._span
        if settings.poses:
            camera = self._config.cameras[0]
            pictures = PictureStamps(self._bag, resolve(self._config.image_topic(camera), settings.namespace))
            file = read_trajectory(settings.poses, pictures=pictures)
            self.pose_source = str(settings.poses)
            self.notes += [*file.notes(settings.poses), *pictures.notes]
            return TruePoses(file.trajectory, settings.pose_frame or "")
        start_ns, stop_ns = max(0, span.start_ns - _SLACK_NS), min(span.stop_ns, FOREVER_NS - _SLACK_NS) + _SLACK_NS
        topic = settings.pose_topic or next(pose_topics(self._bag), None)
        if settings.pose_tf:
            self.pose_source = "transforms {}:{}".format(*settings.pose_tf)
            try:
                found = read_transforms(self._bag, *settings.pose_tf, start_ns, stop_ns)
            except InputError:
                if span == WHOLE:
                    raise
                self.notes.append(f"there are no {self.pose_source} of some parts: no errors there")
                return None
        elif topic is not None:
            found = read_poses(self._bag, topic, start_ns, stop_ns)
            self.pose_source = topic
            if not len(found.trajectory) and not found.unusable:
                if settings.pose_topic and span == WHOLE:
                    raise InputError(f"{topic} has no messages")
                when = "" if span == WHOLE else " of some parts"
                self.notes.append(f"{topic} has no true poses{when}: no errors there")
                return None
        else:
            self.notes.append("there are no true poses: no errors of poses")
            return None
        for stamp_ns in found.unusable:
            self.left_out.count("", " true poses are no rotation and finite place: left out", stamp_ns)
        return replace(found, frame=settings.pose_frame or found.frame)

    def _read_calibrations(self) -> dict[str, CameraCalibration]:
        found = {}
        for camera in self._config.cameras:
            topic = self._config.camera_info_topic(camera)
            resolved = None if topic is None else resolve(topic, self._settings.namespace)
            if resolved in self._bag.topics:
                first = next(self._bag.messages([resolved]), None)
                if first is not None:
                    self.frame_ids[camera] = (
                        self._config.camera_config(camera).frame_id or first.message.header.frame_id
                    )
                    rectified = self._config.camera_config(camera).rectified
                    found[camera] = calibration_from_info(first.message, camera, rectified)
        return found

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
        return named

    def _open_clouds(self) -> dict[str, CloudDepth]:
        """For calibrated cameras without depth topic."""
        there = sorted(name for name, topic in self._bag.topics.items() if topic.type == CLOUD)
        named = [name for name in there if "ground_truth" in name or "groundtruth" in name]
        topic = self._settings.cloud_topic or next(iter(named), None)
        if topic is None:
            return {}
        if topic not in there:
            raise InputError(
                f"the recording has no topic {topic} of type {CLOUD}; there are: {', '.join(there) or 'none'}"
            )
        first = next(self._bag.messages([topic]), None)
        if first is None:
            return {}
        world = self.poses.world.lstrip("/") if self.poses else ""
        is_map = bool(world) and first.message.header.frame_id.lstrip("/") == world
        found = {}
        for camera in self.calibrations.keys() - self.depth_topics.keys():
            # A map is sent once, maybe long before the part that is looked at.
            if is_map:
                messages = StampedMessages(self._bag, topic, CLOUD, self._tolerance_ns)
            else:
                messages = self._messages(topic, CLOUD)
            found[camera] = CloudDepth(messages, is_map, self.static, self.pose)
        return found
