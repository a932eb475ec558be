"""The robot's own odometry onto the frames of a set: where the base was at each image's stamp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from da3_ros.config import FramesConfig
from da3_ros.datatypes import FrameSet
from da3_ros.errors import FrameError, InputError
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw

# FrameError.reason of an image at whose stamp the robot's pose is not known.
NO_ODOMETRY = "no odometry"


def attach_odometry(
    frame_set: FrameSet,
    frames: FramesConfig,
    look_up: Callable[[int], np.ndarray | str],
    dropped: Callable[[FrameError], None],
    required: bool = True,
) -> FrameSet | None:
    """``frame_set`` with ``T_odom_base`` of each frame; None when no frame is left.

    Where it is not ``required``, as a source of scale among others, frames stay without it.

    ``look_up``: stamp in nanoseconds -> T_odom_base (4, 4) at that time, interpolated and never extrapolated, or why
    it is not known. ``dropped`` is told of each frame that is left out for that.
    """
    placed = []
    for frame in frame_set.frames:
        found = look_up(frame.stamp_ns)
        if isinstance(found, str) and not required:
            placed.append(frame)
        elif isinstance(found, str):
            text = (
                f"model.pose_conditioning is odometry, but there is no transform {frames.odom} -> {frames.base} at the "
                f"image's stamp ({found}): publish the robot's odometry on /tf, stamped by the clock of the images, or "
                "name its frames in frames.odom and frames.base"
            )
            dropped(FrameError(frame.camera, NO_ODOMETRY, text))
        else:
            placed.append(replace(frame, T_odom_base=found))
    if not placed:
        return None
    return replace(frame_set, stamp_ns=max(frame.stamp_ns for frame in placed), frames=tuple(placed))


class BaseOdometry:
    """Poses of frames.base from the nav_msgs/Odometry of ``topic``, whatever frame its messages are about.

    ``static``: target and source frame -> T_target_source (4, 4), None where no static transform connects them.
    """

    def __init__(self, topic: str, frames: FramesConfig, static: Callable[[str, str], np.ndarray | None]):
        self._topic, self._frames, self._static = topic, frames, static
        self._sides: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}  # T_odom_frame, T_child_base
        self._frame: str | None = None

    def pose(self, message: Any) -> tuple[int, np.ndarray]:
        """Stamp in nanoseconds and T_odom_base (4, 4) of a message.

        Where odom is this node's own (frames.publish_tf) only the way between two moments counts, so the messages may
        be in any frame that stays the same. Raises InputError where they are in another one than frames.odom else,
        or about another one than frames.base, and no static transform connects the two; and for a rotation that is
        none.
        """
        names = message.header.frame_id.lstrip("/"), message.child_frame_id.lstrip("/")
        if names not in self._sides:
            self._sides[names] = self._T_odom_frame(names[0]), self._T_child_base(names[1])
            self._frame = names[0]
        stamp_ns, T_frame_child = pose_from_odometry(message)
        T_odom_frame, T_child_base = self._sides[names]
        return stamp_ns, T_odom_frame @ T_frame_child @ T_child_base

    def _T_odom_frame(self, frame: str) -> np.ndarray:
        odom = self._frames.odom
        if self._frames.publish_tf:
            if self._frame not in (None, frame):
                raise InputError(
                    f"the odometry of {self._topic} is in '{frame}', and was in '{self._frame}' before: let one node "
                    "alone publish on scale.odometry_topic"
                )
            return np.eye(4)
        return self._connection(
            odom,
            frame,
            f"is in header.frame_id '{frame}', but frames.odom is '{odom}'",
            "set frames.odom to that frame, or scale.odometry_topic to the odometry in frames.odom",
        )

    def _T_child_base(self, child: str) -> np.ndarray:
        base = self._frames.base
        return self._connection(
            child,
            base,
            f"has the pose of child_frame_id '{child}', but frames.base is '{base}'",
            "publish it on /tf_static, or name the frame in frames.base",
        )

    def _connection(self, target: str, source: str, problem: str, mend: str) -> np.ndarray:
        """T_target_source (4, 4). Raises InputError where it is not known."""
        T = np.eye(4) if target == source else self._static(target, source)
        if T is None:
            raise InputError(
                f"the odometry of {self._topic} {problem}, and no static transform connects the two, so it is not "
                f"used: {mend}"
            )
        return T


def pose_from_odometry(message: Any) -> tuple[int, np.ndarray]:
    """Stamp in nanoseconds and pose (4, 4) of the child frame in a nav_msgs/Odometry.

    Raises InputError for a quaternion that is no rotation and a position that is not finite.
    """
    stamp, pose = message.header.stamp, message.pose.pose
    turn = pose.orientation
    rotation = matrix_from_quat_xyzw(np.array([turn.x, turn.y, turn.z, turn.w]))
    at = np.array([pose.position.x, pose.position.y, pose.position.z])
    if not np.isfinite(at).all():
        raise InputError(f"the odometry's position is {at.tolist()}")
    return stamp.sec * 1_000_000_000 + stamp.nanosec, T_from(rotation, at)
