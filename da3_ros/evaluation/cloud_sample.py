"""Points for the report: some frames of a recording, estimated and true, small enough for a page."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from da3_ros.evaluation.arrays import is_depth
from da3_ros.evaluation.even import EvenlyKept
from da3_ros.evaluation.score import SeenFrame
from da3_ros.evaluation.truth import pixel_rays
from da3_ros.geometry.camera import unproject
from da3_ros.geometry.distortion import distort

_FRAMES = 12  # of each camera, at most; at least half as many once there are more
_POINTS = 6000  # of a frame
_NO_PICTURE = (150, 150, 150)


@dataclass(frozen=True)
class CloudFrame:
    """Points of one frame in the camera's optical frame: ``points`` (n, 3) as estimated, ``pixels`` (n, 2) where they
    are in the picture of ``size`` (height, width), and ``true`` (m, 3). ``T_world_cam``: the estimated pose, and
    ``T_true_cam`` the true one, each in a world of its own; None where not known. Each ``piece`` of a recording has a
    world of estimates of its own."""

    camera: str
    stamp_ns: int
    points: np.ndarray
    pixels: np.ndarray
    size: tuple[int, int]
    true: np.ndarray | None
    T_world_cam: np.ndarray | None
    T_true_cam: np.ndarray | None
    piece: int = 0


class CloudSample:
    """Keeps few of the frames that it is shown, at even distances, however long the recording is."""

    def __init__(self) -> None:
        self._frames: dict[str, EvenlyKept[CloudFrame]] = {}

    def add(self, seen: SeenFrame) -> None:
        """The next frame of its camera."""
        frames = self._frames.setdefault(seen.estimate.camera, EvenlyKept(_FRAMES))
        if frames.next_is_wanted():
            frames.keep(cloud_frame(seen))

    def merge(self, later: CloudSample) -> None:
        """Take over those of ``later``, whose frames come after those that were seen here."""
        piece = 1 + max((frame.piece for frame in self.frames), default=-1)
        for camera, frames in later._frames.items():
            moved = [replace(frame, piece=piece + frame.piece) for frame in frames.kept]
            self._frames.setdefault(camera, EvenlyKept(_FRAMES)).extend(moved)

    @property
    def frames(self) -> list[CloudFrame]:
        """By camera and time."""
        return [frame for frames in self._frames.values() for frame in frames.kept]


def cloud_frame(seen: SeenFrame) -> CloudFrame:
    """Points of one frame, at most some thousands."""
    frame, calibration, true = seen.estimate, seen.calibration, seen.true
    depth = torch.from_numpy(frame.depth.astype(np.float32))
    points = unproject(depth, torch.from_numpy(np.asarray(frame.K))).numpy().reshape(-1, 3)
    points = points[_some_of(is_depth(frame.depth))]
    bent = distort(points[:, :2] / points[:, 2:], calibration.D, calibration.distortion_model)
    K = np.asarray(calibration.K)
    pixels = np.stack([bent[:, 0] * K[0, 0] + K[0, 2], bent[:, 1] * K[1, 1] + K[1, 2]], axis=-1)
    true_points = None
    if true is not None:
        rays = pixel_rays(true.shape[0], true.shape[1], calibration)
        chosen = _some_of(is_depth(true))
        z = true.reshape(-1)[chosen][:, None]
        true_points = np.concatenate([rays.reshape(-1, 2)[chosen] * z, z], axis=1).astype(np.float32)
    size = calibration.height, calibration.width
    about = frame.camera, frame.stamp_ns, points, pixels.astype(np.float32), size
    return CloudFrame(*about, true_points, frame.T_world_cam, seen.T_true_cam)


def point_colours(frame: CloudFrame, picture: np.ndarray | None) -> np.ndarray:
    """(n, 3) uint8 RGB of the estimated points, from the ``picture`` (h, w, 3) BGR of any size; grey without."""
    if picture is None:
        return np.tile(np.array(_NO_PICTURE, np.uint8), (len(frame.points), 1))
    height, width = picture.shape[:2]
    u = ((frame.pixels[:, 0] + 0.5) * width / frame.size[1]).astype(int).clip(0, width - 1)
    v = ((frame.pixels[:, 1] + 0.5) * height / frame.size[0]).astype(int).clip(0, height - 1)
    return picture[v, u, ::-1]


def _some_of(mask: np.ndarray) -> np.ndarray:
    """Indices of at most _POINTS pixels of ``mask`` (H, W), in order: a random choice, the same one at every run, as
    rows and columns would show."""
    places = np.flatnonzero(mask)
    if len(places) > _POINTS:
        random = np.random.default_rng(len(places))
        places = places[np.sort(random.choice(len(places), _POINTS, replace=False, shuffle=False))]
    return places
