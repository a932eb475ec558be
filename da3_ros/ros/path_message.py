"""Paths to their serialized form: each pose is serialized once, when it is new, and not again with every path.

rclpy takes 10 us for each pose of a path, with the interpreter's lock held: at the 1000 poses that a path has by
default, longer than everything else that is published of a set of images.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from da3_ros.ros.pixel_messages import Memory
from da3_ros.ros.small_messages import sending_class, serialize

_COUNT_BYTES = 4


class PathPose:
    """A PoseStamped of these fields. ``data``: its bytes behind another pose, whose end is aligned to eight bytes."""

    def __init__(self, **fields: Any):
        self.message = sending_class()("geometry_msgs/msg/PoseStamped")(**fields)
        one, two = (_path(self.message.header, [self.message] * count) for count in (1, 2))
        self.data = two[len(one) :].tobytes()


class PathMessage:
    """A Path of ``poses``, oldest first."""

    def __init__(self, header: Any, poses: list[PathPose]):
        self._header, self._poses = header, poses

    def serialize(self, memory: Memory) -> np.ndarray:
        """The whole message, (n,) uint8 in ``memory``."""
        # The first pose follows the number of poses, and may be aligned in another way than those behind it.
        start = _path(self._header, [pose.message for pose in self._poses[:1]]).tobytes()
        at = len(_path(self._header, [])) - _COUNT_BYTES
        count = struct.pack("<I" if start[1] & 1 else ">I", len(self._poses))
        parts = (start[:at], count, start[at + _COUNT_BYTES :], *(pose.data for pose in self._poses[1:]))
        whole = memory.of(sum(map(len, parts)))
        whole[:] = np.frombuffer(b"".join(parts), np.uint8)
        return whole


def _path(header: Any, poses: list[Any]) -> np.ndarray:
    return serialize(sending_class()("nav_msgs/msg/Path")(header=header, poses=poses))
