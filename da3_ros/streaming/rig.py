"""A calibrated rig that conditions the network: its cameras as the network takes them, and the scale from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from da3_ros.datatypes import Frame, View
from da3_ros.errors import FrameError
from da3_ros.geometry.align import align_cameras
from da3_ros.geometry.se3 import invert


class Rig:
    """Where the cameras of one set stand. The base is the world; lengths are metres."""

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
                "model.pose_conditioning is rig, but its place on the robot is not known: publish its transform to the "
                "base on /tf_static",
            )
        if frame.calibration is None:
            raise FrameError(
                frame.camera,
                "calibration",
                "model.pose_conditioning is rig, but the image has no calibration: publish its CameraInfo",
            )

    def cameras(self, views: Sequence[View], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """T_cam_base (1, N, 4, 4) and K (1, N, 3, 3) of ``views``, float32; K in canvas pixels from the corner."""
        T_cam_base = np.stack([self._T_cam_base[view.camera] for view in views])
        K = np.stack([view.K for view in views])
        K[:, :2, 2] += 0.5
        poses, intrinsics = (torch.from_numpy(array.astype(np.float32))[None] for array in (T_cam_base, K))
        return poses.to(device, non_blocking=True), intrinsics.to(device, non_blocking=True)


def align_to_rig(
    T_cam_base: torch.Tensor, T_cam_world: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rig's poses in the network's unit, and that unit in metres, from predicted poses (N, 4, 4) of the rig.

    Returns T_cam_base (N, 4, 4) with translations in the network's unit, metres per unit () and its standard
    deviation (). All are NaN where the predicted poses do not show the rig's baselines (see align_cameras): one
    camera, cameras in one place, or a prediction that contradicts the rig.
    """
    found = align_cameras(T_cam_base, T_cam_world)
    scale = torch.where(found.scale_determined, found.similarity.scale, torch.nan).float()
    in_units = T_cam_base.clone()
    in_units[:, :3, 3] *= scale
    return in_units, 1 / scale, found.scale_stddev.float() / scale
