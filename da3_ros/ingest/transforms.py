"""Transform messages to a tree of frames: where a camera stands on the robot, from a recording's TF topics."""

from __future__ import annotations

from typing import Any

import numpy as np

from da3_ros.geometry.se3 import T_from, invert, matrix_from_quat_xyzw

TRANSFORM_TYPES = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
STATIC_TOPIC = "tf_static"  # the last part of its name, in any namespace
_DEEPEST = 100


def matrix_from_transform(transform: Any) -> np.ndarray:
    """(4, 4) float64 matrix of a geometry_msgs/Transform.

    Raises InputError for a rotation that is none.
    """
    rotation, translation = transform.rotation, transform.translation
    R = matrix_from_quat_xyzw(np.array((rotation.x, rotation.y, rotation.z, rotation.w)))
    return T_from(R, np.array((translation.x, translation.y, translation.z)))


class TransformTree:
    """The newest transform of each frame to its parent."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, np.ndarray]] = {}

    def add(self, message: Any) -> None:
        """Take over all transforms of a TFMessage. Raises InputError for a rotation that is none."""
        for stamped in message.transforms:
            parent, child = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
            self._parents[child] = parent, matrix_from_transform(stamped.transform)

    def lookup(self, target: str, source: str) -> np.ndarray | None:
        """T_target_source (4, 4); None where the two frames are not connected."""
        to_target, to_source = self._path(target.lstrip("/")), self._path(source.lstrip("/"))
        common = next((frame for frame in to_source if frame in to_target), None)
        return None if common is None else invert(to_target[common]) @ to_source[common]

    def _path(self, frame: str) -> dict[str, np.ndarray]:
        """T_ancestor_frame by ancestor, from the frame itself up to the root."""
        path = {frame: np.eye(4)}
        T = np.eye(4)
        while frame in self._parents and len(path) < _DEEPEST:
            parent, T_parent_frame = self._parents[frame]
            T = T_parent_frame @ T
            if parent in path:  # a loop: there is no root
                break
            path[parent] = T
            frame = parent
        return path
