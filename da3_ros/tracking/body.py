"""Which cameras the body's pose comes from, step by step: what the host decides of it.

With metres and transforms the body is where the rig's cameras have it. Without metres no lever of the rig has a
length: the base is then where one camera is, in the base's axes, and other cameras carry it on by where they were seen
from it (Memory.arms). As long as no transform is known, a camera carries a body of its own, in REP 103's axes at its
place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from da3_ros.geometry.se3 import IDENTITY, T_BODY_OPTICAL, invert


class Body:
    """From one start of odom to the next. Not thread-safe."""

    def __init__(self) -> None:
        self._alone: str | None = None  # the camera that the body is at while none has a place on the robot
        self._row: dict[str, int] = {}  # of Memory.arms
        self._armed: set[str] = set()  # of windows that were usable, which the host does not know yet
        self._hung = ""  # the camera that the last body hung on

    def comes_late(self, mounted: np.ndarray) -> bool:
        """Whether odom has no base so far, and the newest views, ``mounted`` (M,) where their place is known, have."""
        return self._alone is not None and bool(mounted.any())

    def align(self, T_base_cam: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """T_new_old (4, 4), from odom as it is to odom as it had been with ``T_base_cam`` from the first window on.

        Since odom began at the body, it is T_base_old of the body that odom has had as well; from now on it has the
        base. None where the camera that odom began with is not among them.
        """
        assert self._alone is not None
        mount = T_base_cam.get(self._alone)
        if mount is None:
            return None
        self._alone = None
        return mount @ invert(T_BODY_OPTICAL)

    def step(
        self, cameras: Sequence[str], newest: int, T_base_cam: Mapping[str, np.ndarray], first: bool
    ) -> dict[str, np.ndarray]:
        """Of a window with views of ``cameras``, the newest set's from index ``newest`` on: those of Facts that say on
        what the body hangs."""
        rows = [self._row.setdefault(camera, len(self._row)) for camera in cameras]
        lead = None
        if first:
            lead = next((index for index, camera in enumerate(cameras) if camera in T_base_cam), 0)
            self._hung = cameras[lead]
            self._alone = None if self._hung in T_base_cam else self._hung
        hangs = [
            index >= newest and (camera in T_base_cam if self._alone is None else camera == self._alone)
            for index, camera in enumerate(cameras)
        ]
        hanging = [index for index, hung in enumerate(hangs) if hung]
        # Where on the body these are is known: what was seen there, or the one that the body is at.
        known = self._armed or {self._hung}
        chief = max(hanging, key=lambda index: (cameras[index] in known, -index), default=newest)
        chiefs = [chief if lead is None else lead, chief]
        kept = np.zeros((2, 4, 4))
        if not hanging:
            kept[:] = 1.0  # a pose that nobody sees
        elif cameras[chief] not in known:
            kept[0, :3, 3] = 1.0  # a place; from here on it goes with this camera
        lever = np.zeros(3) if first else -invert(T_base_cam.get(self._hung, T_BODY_OPTICAL))[:3, 3]
        found = {
            "mount": np.stack([T_base_cam.get(camera, IDENTITY) for camera in cameras]),
            "hangs": np.array(hangs, dtype=np.float64),
            "arm": np.array(rows[newest:]),
            # What is remembered of these stays as it was first seen: written anew in each step, its error would add up.
            "armed": np.array([camera in self._armed for camera in cameras], dtype=np.float64),
            "even": np.array(hangs) / max(1, len(hanging)),
            "alone": np.array(float(len(hanging) < 2)),
            "chief": np.array(chiefs),
            "chief_mount": np.stack([T_base_cam.get(cameras[index], T_BODY_OPTICAL) for index in chiefs]),
            "chief_arm": np.array(rows[chief]),
            "chief_armed": np.array(float(cameras[chief] in self._armed)),
            "kept": kept,
            "hung": np.array(self._row[self._hung]),
            "hung_lever": lever,
        }
        if hanging:
            self._hung = cameras[chief]
        self._armed.update(cameras[index] for index in hanging)
        return found
