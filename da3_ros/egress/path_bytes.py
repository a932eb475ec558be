"""Paths to their serialized form: each pose is serialized once, when it is new, and not again with every path.

A pose takes 5 to 10 us with the interpreter's lock held: at the 1000 poses that a path has by default, longer than
everything else that is made of a set of images.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from operator import is_
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
        # Those of the last path, in its order, and their bytes behind another one.
        self._poses: deque[Any] = deque()
        self._bytes: deque[bytes] = deque()

    def serialize(self, path: Any) -> bytes:
        """``path`` as ``message_types`` serializes it."""

        def made(header: Any, poses: Sequence[Any]) -> bytes:
            return bytes(message_types().serialize_cdr(type(path)(header=header, poses=list(poses)), path.__msgtype__))

        kept, poses = self._poses, path.poses
        while kept and not (poses and kept[0] is poses[0]):
            kept.popleft()
            self._bytes.popleft()
        if len(kept) > len(poses) or not all(map(is_, kept, poses)):
            kept.clear()
            self._bytes.clear()
        for pose in poses[len(kept) :]:
            kept.append(pose)
            self._bytes.append(pose_behind(made, pose))
        return path_bytes(made, path.header, poses[:1], list(islice(self._bytes, 1, None)))
