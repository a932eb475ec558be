"""A window's prediction into the odom frame, on the device: poses, scale and the intrinsics to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from da3_ros.cuda_graphs import Replay
from da3_ros.datatypes import View, WindowPrediction, WindowView
from da3_ros.geometry.se3 import T_BODY_OPTICAL, invert, transform_points
from da3_ros.streaming.device import pinned
from da3_ros.tracking import TrackedWindow, WindowTracking, anchor_window, invert_rigid

# Combinations of views whose constants are kept; a rig with cameras that come and go has a few hundred.
_KEPT_CONSTANTS = 512
_GRAPHS = 8


@dataclass(frozen=True)
class PlacedWindow:
    """A prediction and where its views are."""

    prediction: WindowPrediction
    T_odom_cam: torch.Tensor | None  # (N, 4, 4), on the device; None for networks without poses
    T_odom_base: torch.Tensor | None  # (4, 4), on the device; None when no camera's extrinsics are known
    K: torch.Tensor  # (N, 3, 3) in use, canvas pixels, OpenCV pixel centres, on the device
    K_predicted: torch.Tensor | None  # (N, 3, 3) likewise, from the network
    metres_per_unit: torch.Tensor | None = None  # () to multiply depth by, NaN where that is not known; None: by 1
    tracked: TrackedWindow | None = None
    dynamic: torch.Tensor | None = None  # (M, H, W) uint8 of the newest views, 255 where something moves


@dataclass(frozen=True)
class _Constants:
    """What is known of a window beforehand, on the device."""

    views: tuple[View, ...]  # keeps them alive: the constants are found by their identities
    K: torch.Tensor  # (N, 3, 3) calibrated, NaN where there is none
    calibrated: torch.Tensor  # (N, 1, 1) bool
    half_pixel: torch.Tensor  # (3, 3), from the network's pixel coordinates to OpenCV's
    T_base_first: torch.Tensor  # (4, 4), of the first view's camera
    T_cam_base: torch.Tensor  # (4, 4), of the camera that the base's pose comes from


class Placement:
    """Places windows; what does not change from one to the next is uploaded once. Not thread-safe.

    With ``graphs`` windows whose predictions lie in the same place again are placed by a CUDA graph.
    With ``tracking`` every window continues the frame of the one before. Without it (known cameras condition the
    network) it stands for itself, or where the robot's odometry has it. ``metres_only``: as long as the tracked scale
    is not known in metres there is none. ``stands_back``: odom is the robot's own; where its odometry is known the
    newest set is there, and the window adds where its views are from each other.
    """

    def __init__(
        self,
        device: torch.device,
        graphs: bool = False,
        tracking: WindowTracking | None = None,
        metres_only: bool = False,
        stands_back: bool = False,
    ):
        self._device = device
        self._tracking = tracking
        self._metres_only = metres_only
        self._stands_back = stands_back
        self._replay = Replay(device, _GRAPHS if graphs else 0)
        self._T_base_cam: dict[str, np.ndarray] = {}
        self._constants: dict[tuple, _Constants] = {}
        self._places: dict[tuple[int, ...], torch.Tensor] = {}  # what is uploaded anew at each step, by its shape
        self._T_given_odom: torch.Tensor | None = None  # (4, 4) from tracking's frame to the robot's odom

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Known extrinsics: camera name -> (4, 4) T_base_cam in metres. Cameras left out are not known."""
        self._T_base_cam = dict(T_base_cam)
        self._constants.clear()

    def place(
        self, prediction: WindowPrediction, ranges: np.ndarray | None = None, ranges_frame: str = ""
    ) -> PlacedWindow:
        """Poses in odom, in metres where there is a scale, and the intrinsics to use. No host synchronization.

        Views whose poses in odom are known are there, whatever was predicted. The next window may overwrite it.
        ``ranges`` and their frame are those of the newest FrameSet.
        """
        views = prediction.views
        placed = self._newest_of_rig(views)
        known = self._known(views, placed)
        if prediction.T_cam_world is None or prediction.K is None:
            return PlacedWindow(prediction, None, None, known.K, None, prediction.metres_per_unit)
        if self._tracking is not None:
            return self._track(self._tracking, prediction, known, self._pixels(views, ranges, ranges_frame))
        given = self._given(views)
        tensors = self._replay.run(
            id(known),
            (prediction.T_cam_world, prediction.K, prediction.metres_per_unit, given),
            lambda: _place(prediction, known, placed, given),
            kept=known,
        )
        return PlacedWindow(prediction, *tensors, prediction.metres_per_unit)

    def _track(
        self, tracking: WindowTracking, prediction: WindowPrediction, known: _Constants, ranges: np.ndarray | None
    ) -> PlacedWindow:
        """The window in the frame of the one before. ``ranges`` as Tracker has them."""
        K, K_predicted = self._replay.run(
            ("K", id(known)), (prediction.K,), lambda: _intrinsics(prediction, known), kept=known
        )
        tracked = tracking.place(prediction, K, ranges)
        metres = self._replay.run(
            "metres",
            (tracked.metres_per_unit, tracked.metric),
            lambda: torch.where(tracked.metric | (not self._metres_only), tracked.metres_per_unit, torch.nan).float(),
        )
        T_odom_cam, T_odom_base = tracked.T_odom_cam, tracked.T_odom_base
        if tracked.first or tracked.T_new_old is not None:
            self._T_given_odom = None
        if self._stands_back and tracked.T_given_base is not None and T_odom_base is not None:
            given = self._upload_in_place(tracked.T_given_base)
            where = T_odom_base, T_odom_cam
            T_given_odom, T_odom_cam = self._replay.run(
                "stand back", (given, *where), lambda: _stand_back(given, *where), kept=given
            )
            if self._T_given_odom is None:
                self._T_given_odom = torch.empty_like(T_given_odom)
            self._T_given_odom.copy_(T_given_odom)
            T_odom_base = given
        elif self._T_given_odom is not None:
            # A gap in the robot's odometry: the windows carry on from where it ended, in the robot's frame.
            T, base, poses = self._T_given_odom, T_odom_base, T_odom_cam
            T_odom_base, T_odom_cam = self._replay.run(
                "carry on", (T, base, poses), lambda: (None if base is None else T @ base, T @ poses), kept=T
            )
        return PlacedWindow(prediction, T_odom_cam, T_odom_base, K, K_predicted, metres, tracked)

    def _pixels(self, views: Sequence[WindowView], ranges: np.ndarray | None, frame_id: str) -> np.ndarray | None:
        """Where the newest views see points (K, 3) of the base's frame, or that of cameras, as Tracker has ranges."""
        if ranges is None:
            return None
        found = []
        for index, one in enumerate(view for view in views if view.newest):
            own = frame_id != "" and one.frame_id == frame_id
            if not one.view.calibrated or not (own or (frame_id == "" and one.camera in self._T_base_cam)):
                continue
            points = ranges if own else transform_points(invert(self._T_base_cam[one.camera]), ranges)
            x, y, z = points.T
            ahead = z > 0
            u, v = (one.view.K @ np.stack([x, y, z])[:, ahead] / z[ahead])[:2]
            top, left, height, width = one.view.content
            inside = (u >= left) & (u <= left + width - 1) & (v >= top) & (v <= top + height - 1)
            found.append(np.stack([np.full(inside.sum(), index), u[inside], v[inside], z[ahead][inside]], axis=-1))
        return np.concatenate(found) if found else None

    def _given(self, views: Sequence[WindowView]) -> torch.Tensor | None:
        """T_odom_cam (N, 4, 4) float32 that the network was told, on the device; None where it was told none."""
        poses = [view.T_odom_cam for view in views if view.T_odom_cam is not None]
        if not poses:
            return None
        return self._upload_in_place(np.stack(poses).astype(np.float32))

    def _upload_in_place(self, array: np.ndarray) -> torch.Tensor:
        """On CUDA always in the same place, overwriting what was there: graphs read their inputs where they lie."""
        host = pinned(array, self._device)
        if self._device.type != "cuda":
            return host
        place = self._places.get(array.shape)
        if place is None:
            place = self._places[array.shape] = torch.empty_like(host, device=self._device)
        return place.copy_(host, non_blocking=True)

    def _newest_of_rig(self, views: Sequence[WindowView]) -> int | None:
        """The view that the base's pose comes from: of the newest set the last one, since its stamp is the set's."""
        known = [index for index, view in enumerate(views) if view.newest and view.camera in self._T_base_cam]
        return max(known, key=lambda index: views[index].stamp_ns, default=None)

    def _known(self, views: Sequence[WindowView], placed: int | None) -> _Constants:
        key = (*(id(view.view) for view in views), placed)
        if key not in self._constants:
            if len(self._constants) == _KEPT_CONSTANTS:
                self._constants.clear()
            self._constants[key] = self._upload(views, placed)
        return self._constants[key]

    def _upload(self, views: Sequence[WindowView], placed: int | None) -> _Constants:
        """In one copy, from pinned memory so that it does not wait."""
        first = self._T_base_cam.get(views[0].camera, T_BODY_OPTICAL)
        T_cam_base = np.eye(4) if placed is None else invert(self._T_base_cam[views[placed].camera])
        parts = [
            np.stack([view.view.K for view in views]),
            np.array([view.view.calibrated for view in views]).reshape(-1, 1, 1),
            # The network counts pixels from the image's corner, OpenCV and ROS from the first pixel's centre.
            np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]),
            first,
            T_cam_base,
        ]
        host = torch.from_numpy(np.concatenate([part.ravel() for part in parts]).astype(np.float32))
        if self._device.type == "cuda":
            host = host.pin_memory()
        flat = host.to(self._device, non_blocking=True).split([part.size for part in parts])
        K, calibrated, half_pixel, T_base_first, T_cam_base = (
            values.view(part.shape) for values, part in zip(flat, parts, strict=True)
        )
        return _Constants(tuple(view.view for view in views), K, calibrated > 0, half_pixel, T_base_first, T_cam_base)


def _stand_back(
    T_given_base: torch.Tensor, T_odom_base: torch.Tensor, T_odom_cam: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """T_given_odom (4, 4) and T_given_cam (N, 4, 4), where the base is T_given_base."""
    T_given_odom = T_given_base @ invert_rigid(T_odom_base)
    return T_given_odom, T_given_odom @ T_odom_cam


def _place(
    prediction: WindowPrediction, known: _Constants, placed: int | None, given: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """The tensors of a PlacedWindow. ``placed``: the view that the base's pose comes from, ``given``: poses in odom."""
    assert prediction.T_cam_world is not None and prediction.K is not None
    T_odom_cam = given
    if T_odom_cam is None:
        T_cam_world = prediction.T_cam_world
        if prediction.metres_per_unit is not None:
            T_cam_world = T_cam_world.clone()
            T_cam_world[:, :3, 3] *= prediction.metres_per_unit
        T_odom_cam = anchor_window(T_cam_world, known.T_base_first)
    T_odom_base = None if placed is None else T_odom_cam[placed] @ known.T_cam_base
    return T_odom_cam, T_odom_base, *_intrinsics(prediction, known)


def _intrinsics(prediction: WindowPrediction, known: _Constants) -> tuple[torch.Tensor, torch.Tensor]:
    """K (N, 3, 3) in use and K as predicted."""
    assert prediction.K is not None
    K_predicted = prediction.K - known.half_pixel
    return torch.where(known.calibrated, known.K, K_predicted), K_predicted
