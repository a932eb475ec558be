"""The robot's odometry conditions the network: where each view's camera was when its image was taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from da3_ros.datatypes import Frame, WindowView
from da3_ros.errors import FrameError
from da3_ros.geometry.se3 import invert, is_rigid
from da3_ros.streaming.rig import Rig, known_cameras


class Odometry(Rig):
    """Where the cameras of the whole window stood: a view keeps the pose that its frame came with.

    The first view is the world for the network, so that a robot that is far from odom's origin loses nothing to
    rounding.
    """

    conditioning = "odometry"

    def check(self, frame: Frame) -> None:
        """Raises FrameError where a frame's camera cannot condition the network."""
        super().check(frame)
        if frame.T_odom_base is None or not is_rigid(frame.T_odom_base):
            raise FrameError(
                frame.camera,
                "odometry",
                "model.pose_conditioning is odometry, but the frame's T_odom_base is "
                f"{'missing' if frame.T_odom_base is None else 'not a rigid (4, 4) transform'}: give every frame the "
                "robot's pose at its stamp",
            )

    def T_odom_cam(self, frame: Frame) -> np.ndarray | None:
        """Pose (4, 4) of the camera in odom at the frame's stamp, after ``check``."""
        assert frame.T_odom_base is not None
        return frame.T_odom_base @ invert(self._T_cam_base[frame.camera])

    def cameras(self, views: Sequence[WindowView], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """T_cam_first (1, N, 4, 4) and K (1, N, 3, 3) of ``views``, as Rig has them; the first view is the world."""
        T_odom_cam = np.stack([view.T_odom_cam for view in views if view.T_odom_cam is not None])
        return known_cameras(invert(T_odom_cam) @ T_odom_cam[0], views, device)
