"""Paths as they are sent, see egress.path_bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from da3_ros.egress.path_bytes import path_bytes, pose_behind
from da3_ros.ros.pixel_messages import Memory
from da3_ros.ros.small_messages import sending_class, serialize


class PathPose:
    """A PoseStamped of these fields. ``data``: its bytes behind another pose."""

    def __init__(self, **fields: Any):
        self.message = sending_class()("geometry_msgs/msg/PoseStamped")(**fields)
        self.data = pose_behind(_path, self.message)


class PathMessage:
    """A Path of ``poses``, oldest first."""

    def __init__(self, header: Any, poses: list[PathPose]):
        self._header, self._poses = header, poses

    def serialize(self, memory: Memory) -> np.ndarray:
        """The whole message, (n,) uint8 in ``memory``."""
        first, behind = [pose.message for pose in self._poses[:1]], [pose.data for pose in self._poses[1:]]
        data = path_bytes(_path, self._header, first, behind)
        whole = memory.of(len(data))
        whole[:] = np.frombuffer(data, np.uint8)
        return whole


def _path(header: Any, poses: Sequence[Any]) -> bytes:
    return serialize(sending_class()("nav_msgs/msg/Path")(header=header, poses=list(poses))).tobytes()
