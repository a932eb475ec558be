"""Paths to their serialized form: each pose is serialized once, when it is new, and not again with every path.

A pose takes 5 to 10 us with the interpreter's lock held: at the 1000 poses that a path has by default, longer than
everything else that is made of a set of images.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from da3_ros.egress.message_types import message_types

_COUNT_BYTES = 4
# Serializes a Path of this header and these poses.
Serialize = Callable[[Any, Sequence[Any]], bytes]


def pose_behind(serialize: Serialize, pose: Any) -> bytes:
    """The bytes of ``pose`` (PoseStamped) behind another pose, whose end is aligned to eight bytes."""
    one, two = (serialize(pose.header, [pose] * count) for count in (1, 2))
    return two[len(one) :]


def path_bytes(serialize: Serialize, header: Any, first: Sequence[Any], behind: Sequence[bytes]) -> bytes:
    """A Path of ``first``, one pose or none, and of those behind it, as ``pose_behind`` gives them."""
    # The first pose follows the number of poses, and may be aligned in another way than those behind it.
    start = serialize(header, first)
    at = len(serialize(header, [])) - _COUNT_BYTES
    count = struct.pack("<I" if start[1] & 1 else ">I", len(first) + len(behind))
    return b"".join((start[:at], count, start[at + _COUNT_BYTES :], *behind))


class PathBytes:
    """Serializes Paths of ``message_types``, one after the other; their poses are not to be changed afterwards."""

    def __init__(self) -> None:
        # By identity, which is a pose's own as long as it is kept.
        self._kept: dict[int, tuple[Any, bytes]] = {}

    def serialize(self, path: Any) -> bytes:
        """``path`` as ``message_types`` serializes it."""

        def made(header: Any, poses: Sequence[Any]) -> bytes:
            return bytes(message_types().serialize_cdr(type(path)(header=header, poses=list(poses)), path.__msgtype__))

        before = self._kept
        self._kept = {id(pose): before.get(id(pose)) or (pose, pose_behind(made, pose)) for pose in path.poses}
        behind = [self._kept[id(pose)][1] for pose in path.poses[1:]]
        return path_bytes(made, path.header, path.poses[:1], behind)
