"""nav_msgs/Path as CDR: each message repeats the poses of the one before it, whose bytes are kept.

One by one in Python a thousand poses take several milliseconds, at every set.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from da3_ros.egress.message_types import message_types

_PATH, _POSE_STAMPED = "nav_msgs/msg/Path", "geometry_msgs/msg/PoseStamped"
_CAPSULE = 4  # bytes before what is aligned
_POSE = 56  # bytes of position and orientation, which end a PoseStamped and are aligned to 8
_STAMP = 8  # bytes before the frame's name in a header
_COUNT = struct.Struct("<I")


class PathBytes:
    """Serializes paths of messages of ``message_types``, whose poses are not to be changed afterwards."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Any, bytes]] = {}  # by identity, which is one's own while the pose is kept

    def serialize(self, path: Any) -> bytes:
        """``path`` as ``message_types`` serializes it."""
        before = self._kept
        self._kept = {id(pose): before.get(id(pose)) or (pose, _bytes(pose, _POSE_STAMPED)) for pose in path.poses}
        head = _bytes(replace(path, poses=[]), _PATH)
        parts = [head[: -_COUNT.size], _COUNT.pack(len(path.poses))]
        poses = [self._kept[id(pose)][1] for pose in path.poses]
        if poses:
            parts.append(_beginning(poses[0], len(head) - _CAPSULE))
        return b"".join([*parts, *(data[_CAPSULE:] for data in poses[1:])])


def _bytes(message: Any, kind: str) -> bytes:
    return bytes(message_types().serialize_cdr(message, kind))


def _beginning(data: bytes, start: int) -> bytes:
    """A PoseStamped that begins at byte ``start``: all behind it begin at multiples of 8, as its end is one."""
    (name,) = _COUNT.unpack_from(data, _CAPSULE + _STAMP)
    header = data[_CAPSULE : _CAPSULE + _STAMP + _COUNT.size + name]
    return header + bytes(-(start + len(header)) % 8) + data[-_POSE:]
