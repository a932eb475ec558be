"""The robot's own odometry onto the frames of a set: where the base was at each image's stamp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from da3_ros.config import FramesConfig
from da3_ros.datatypes import FrameSet
from da3_ros.errors import FrameError
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


def pose_from_odometry(message: Any) -> tuple[int, np.ndarray]:
    """Stamp in nanoseconds and pose (4, 4) of the child frame in a nav_msgs/Odometry.

    Raises InputError for a quaternion that is no rotation.
    """
    stamp, pose = message.header.stamp, message.pose.pose
    turn = pose.orientation
    rotation = matrix_from_quat_xyzw(np.array([turn.x, turn.y, turn.z, turn.w]))
    at = pose.position
    return stamp.sec * 1_000_000_000 + stamp.nanosec, T_from(rotation, np.array([at.x, at.y, at.z]))
