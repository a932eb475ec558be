"""The robot's own odometry in a recording: where the base was at any stamp, as the node asks tf2 for it."""

from __future__ import annotations

import numpy as np

from da3_ros.config import FramesConfig
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.odometry import BaseOdometry
from da3_ros.ingest.pose_history import PoseHistory
from da3_ros.ingest.transforms import STATIC_TOPIC, TRANSFORM_TYPES, TransformTree, matrix_from_transform


class OdometryHistory:
    """All poses odom -> base of ``bag``: those of ``topic`` (nav_msgs/Odometry), or else transforms odom -> base, or
    odom -> a frame to which ``static`` connects the base.

    Read at once, for those of an image's stamp may come after it: some 100 bytes each. Raises InputError for messages
    of ``topic`` that are not about these frames, see BaseOdometry.
    """

    def __init__(self, bag: Bag, frames: FramesConfig, static: TransformTree, topic: str = ""):
        self._what = f"message on {topic}" if topic else f"transform {frames.odom} -> {frames.base}"
        self._poses, self._T_child_base = PoseHistory(), np.eye(4)
        if topic:
            odometry = BaseOdometry(topic, frames, static.lookup)
            for entry in bag.messages([topic] if topic in bag.topics else []):
                self._poses.add(*odometry.pose(entry.message))
            return
        found: dict[str, PoseHistory] = {}
        for name, kind in bag.topics.items():
            if kind.type not in TRANSFORM_TYPES or name.rpartition("/")[2] == STATIC_TOPIC:
                continue
            for entry in bag.messages([name]):
                for stamped in entry.message.transforms:
                    if stamped.header.frame_id.lstrip("/") == frames.odom:
                        stamp = stamped.header.stamp
                        poses = found.setdefault(stamped.child_frame_id.lstrip("/"), PoseHistory())
                        poses.add(stamp.sec * 1_000_000_000 + stamp.nanosec, matrix_from_transform(stamped.transform))
        for child, poses in found.items():
            T_child_base = static.lookup(child, frames.base)
            if T_child_base is not None:
                self._poses, self._T_child_base = poses, T_child_base

    def at(self, stamp_ns: int) -> np.ndarray | str:
        """T_odom_base (4, 4) at ``stamp_ns``, interpolated and never extrapolated, or why it is not known."""
        if not len(self._poses):
            return f"the recording has no {self._what}"
        found = self._poses.at(stamp_ns)
        if found is None:
            first, last = (stamp / 1e9 for stamp in self._poses.span_ns)
            return f"the recording has it from {first:.3f} to {last:.3f} s, and asked for is {stamp_ns / 1e9:.3f} s"
        return found @ self._T_child_base
