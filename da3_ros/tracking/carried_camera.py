"""The camera that stands for a robot without a rig: where it is, also while it is missing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from da3_ros.geometry.se3 import T_from, invert


class CarriedCamera:
    """Follows the camera that odom began with, and where that is missing the others by where they were last seen from
    it, so that no step takes the way from one camera to another for one of the robot."""

    def __init__(self) -> None:
        self._camera: str | None = None
        self._arms: dict[str, np.ndarray] = {}  # other camera -> T_other_this as last seen together
        self._pose: np.ndarray | None = None

    def step(self, T_odom_cam: Mapping[str, np.ndarray], growth: float, shift: np.ndarray) -> np.ndarray:
        """Its pose (4, 4) in odom, of the cameras' in the newest set, of which there is one at least.

        A place p of the last step is growth p + ``shift`` (3,) now. Where none of the cameras was ever seen together
        with it, it stays where it was.
        """
        if self._pose is not None:
            self._pose = T_from(self._pose[:3, :3], growth * self._pose[:3, 3] + shift)
        for arm in self._arms.values():
            arm[:3, 3] *= growth
        if self._camera is None:
            self._camera = next(iter(T_odom_cam))
        here = T_odom_cam.get(self._camera)
        if here is not None:
            self._arms.update({camera: invert(T) @ here for camera, T in T_odom_cam.items()})
        else:
            carrier = next((camera for camera in T_odom_cam if camera in self._arms), None)
            here = self._pose if carrier is None else T_odom_cam[carrier] @ self._arms[carrier]
        assert here is not None
        self._pose = here
        return here
