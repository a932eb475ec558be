"""What is fit for use, for the live node and for replay: frames that the pipeline takes, estimates with poses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from da3_ros.datatypes import Estimate, FrameSet
from da3_ros.errors import FrameError

T = TypeVar("T")


class Submitted(NamedTuple, Generic[T]):
    """``taken``: whether the pipeline took any of the frames; ``result``: what it gave, None without a step."""

    taken: bool
    result: T | None


def submit_usable(
    frame_set: FrameSet,
    min_cameras: int,
    submit: Callable[[FrameSet], T | None],
    dropped: Callable[[FrameError], None],
) -> Submitted[T]:
    """``submit`` the frames that can be used: one that cannot is ``dropped``, and the rest tried again.

    No fewer than ``min_cameras`` are tried.
    """
    while len(frame_set.frames) >= min_cameras:
        try:
            return Submitted(True, submit(frame_set))
        except FrameError as error:
            dropped(error)
            left = tuple(frame for frame in frame_set.frames if frame.camera != error.camera)
            if not left or len(left) == len(frame_set.frames):
                break
            frame_set = replace(frame_set, frames=left, stamp_ns=max(frame.stamp_ns for frame in left))
    return Submitted(False, None)


def pose_problem(estimate: Estimate) -> FrameError | None:
    """Why ``estimate`` must not be given out: a robot is better off without one that has no pose."""
    for view in estimate.views:
        if view.T_odom_cam is not None and not np.isfinite(view.T_odom_cam).all():
            text = "the network's pose is not finite, or K is not; with model.dtype float16 try bfloat16 or float32"
            return FrameError(view.camera, "not finite", text)
    return None
