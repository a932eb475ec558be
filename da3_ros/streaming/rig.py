"""A calibrated rig that conditions the network: its cameras as the network takes them, and the scale from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from da3_ros.datatypes import Frame, WindowView
from da3_ros.errors import FrameError
from da3_ros.geometry.align import align_cameras
from da3_ros.geometry.se3 import invert
from da3_ros.streaming.device import pinned


class Rig:
    """Where the cameras of one set stand. The base is the world; lengths are metres."""

    conditioning = "rig"

    def __init__(self) -> None:
        self._T_cam_base: dict[str, np.ndarray] = {}

    def update(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Take over the extrinsics: camera name -> (4, 4). Cameras left out are not known."""
        self._T_cam_base = {camera: invert(T) for camera, T in T_base_cam.items()}

    def check(self, frame: Frame) -> None:
        """Raises FrameError where a frame's camera cannot condition the network."""
        if frame.camera not in self._T_cam_base:
            raise FrameError(
                frame.camera,
                "extrinsics",
                f"model.pose_conditioning is {self.conditioning}, but its place on the robot is not known: publish its "
                "transform to the base on /tf_static",
            )
        if frame.calibration is None:
            raise FrameError(
                frame.camera,
                "calibration",
                f"model.pose_conditioning is {self.conditioning}, but the image has no calibration: publish its "
                "CameraInfo",
            )

    def T_odom_cam(self, frame: Frame) -> np.ndarray | None:
        """Pose (4, 4) of the camera in odom at the frame's stamp: a rig knows none."""
        return None

    def cameras(self, views: Sequence[WindowView], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """T_cam_base (1, N, 4, 4) and K (1, N, 3, 3) of ``views``, see known_cameras."""
        return known_cameras(np.stack([self._T_cam_base[view.camera] for view in views]), views, device)


def known_cameras(
    T_cam_world: np.ndarray, views: Sequence[WindowView], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """T_cam_world (1, N, 4, 4) and K (1, N, 3, 3) of ``views``, float32; K in canvas pixels from the corner.

    On the host; see pinned.
    """
    K = np.stack([view.view.K for view in views])
    K[:, :2, 2] += 0.5
    poses, intrinsics = (pinned(array.astype(np.float32)[None], device) for array in (T_cam_world, K))
    return poses, intrinsics


def align_to_known(
    T_cam_known: torch.Tensor, T_cam_world: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The known poses in the network's unit, and that unit in metres, from predicted poses (N, 4, 4) of the same views.

    Returns T_cam_known (N, 4, 4) with translations in the network's unit, metres per unit () and its standard
    deviation (). All are NaN where the predicted poses do not show the known baselines (see align_cameras): one
    camera, cameras in one place, or a prediction that contradicts them.
    """
    found = align_cameras(T_cam_known, T_cam_world)
    scale = torch.where(found.scale_determined, found.similarity.scale, torch.nan).float()
    in_units = T_cam_known.clone()
    in_units[:, :3, 3] *= scale
    return in_units, 1 / scale, found.scale_stddev.float() / scale
