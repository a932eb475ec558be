"""Paths to their serialized form: each pose is serialized once, when it is new, and not again with every path.

rclpy takes 10 us for each pose of a path, with the interpreter's lock held: at the 1000 poses that a path has by
default, longer than everything else that is published of a set of images.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from rclpy.serialization import serialize_message

from da3_ros.ros.pixel_messages import Memory

_COUNT_BYTES = 4


class PathPose:
    """A PoseStamped of these fields. ``data``: its bytes behind another pose, whose end is aligned to eight bytes."""

    def __init__(self, **fields: Any):
        self.message = PoseStamped(**fields)
        self.data = serialize_message(Path(poses=[PoseStamped(), self.message]))[_behind_a_pose() :]


class PathMessage:
    """A Path of ``poses``, oldest first."""

    def __init__(self, header: Any, poses: list[PathPose]):
        self._header, self._poses = header, poses

    def serialize(self, memory: Memory) -> np.ndarray:
        """The whole message, (n,) uint8 in ``memory``."""
        # The first pose follows the number of poses, and may be aligned in another way than those behind it.
        start = serialize_message(Path(header=self._header, poses=[pose.message for pose in self._poses[:1]]))
        at = len(serialize_message(Path(header=self._header))) - _COUNT_BYTES
        count = struct.pack("<I" if start[1] & 1 else ">I", len(self._poses))
        parts = (start[:at], count, start[at + _COUNT_BYTES :], *(pose.data for pose in self._poses[1:]))
        whole = memory.of(sum(map(len, parts)))
        whole[:] = np.frombuffer(b"".join(parts), np.uint8)
        return whole


@cache
def _behind_a_pose() -> int:
    """Where the second pose of a path begins."""
    return len(serialize_message(Path(poses=[PoseStamped()])))
