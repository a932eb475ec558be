"""What is known to be true about a recording: depth topics, poses from topics or files, and where the cameras stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation.arrays import is_depth
from da3_ros.evaluation.stamped import StampedMessages, stamp_of
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.transforms import STATIC_TOPIC, TRANSFORM_TYPES, matrix_from_transform
from da3_ros.replay.progress import watched_messages

_T = TypeVar("_T")
POSE_TYPES = (
    "nav_msgs/msg/Odometry",
    "geometry_msgs/msg/PoseStamped",
    "geometry_msgs/msg/PoseWithCovarianceStamped",
    "geometry_msgs/msg/TransformStamped",
)
DEPTH_TOPIC = "ground_truth/depth"  # beside the image topic
POSE_TOPIC = "/ground_truth/odometry"
_MILLIMETRE = np.float32(0.001)
# Undistorting every pixel takes longer than all else that is done with a frame.
_MOST_KEPT = 16
_RAYS: dict[tuple, np.ndarray] = {}
_PLACES: dict[tuple, tuple[np.ndarray, np.ndarray]] = {}


@dataclass(frozen=True)
class TruePoses:
    """``frame``: whose poses these are, and ``world``: in which frame (both empty where the recording does not say).

    ``unusable``: stamps of further ones that are no rotation and finite place, as some trackers send when lost.
    """

    trajectory: Trajectory
    frame: str
    world: str = ""
    unusable: tuple[int, ...] = ()


class DepthTruth:
    """True depth of one camera by the stamp of its picture, read along with the estimates.

    Messages are 32FC1 in metres or 16UC1 in millimetres (REP 118).
    """

    def __init__(self, messages: StampedMessages):
        self._messages = messages

    def at(self, stamp_ns: int) -> np.ndarray | None:
        """Depth (H, W) float32 in metres, NaN where there is none, of the stamp nearest to ``stamp_ns``.

        None where none is within the tolerance. Stamps must not decrease from call to call. Raises InputError for
        other encodings.
        """
        message = self._messages.nearest(stamp_ns)
        return None if message is None else depth_from_image(message, self._messages.topic)


def depth_from_image(message: Any, topic: str) -> np.ndarray:
    """(H, W) float32 metres of a depth image, NaN where it has none. Raises InputError for other encodings."""
    kinds = {"32FC1": np.float32, "16UC1": np.uint16, "mono16": np.uint16}
    if message.encoding not in kinds:
        raise InputError(f"{topic} has encoding {message.encoding}: depth is 32FC1 (metres) or 16UC1 (millimetres)")
    dtype = np.dtype(kinds[message.encoding]).newbyteorder(">" if message.is_bigendian else "<")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    values = np.ascontiguousarray(rows[:, : message.width * dtype.itemsize]).view(dtype)
    if dtype.kind == "u":
        values = values * _MILLIMETRE
    return np.where(is_depth(values), values, np.float32(np.nan)).astype(np.float32, copy=False)


def read_poses(bag: Bag, topic: str, start_ns: int = 0, stop_ns: int = 2**63 - 1) -> TruePoses:
    """The poses on ``topic`` that were recorded from ``start_ns`` to before ``stop_ns``, maybe none.

    Raises InputError for a topic that is not there, or of a type that holds no poses.
    """
    if topic not in bag.topics or bag.topics[topic].type not in POSE_TYPES:
        there = sorted(name for name, found in bag.topics.items() if found.type in POSE_TYPES)
        raise InputError(f"the recording has no topic {topic} with poses; there are: {', '.join(there) or 'none'}")
    found: dict[int, np.ndarray | None] = {}
    frame = world = ""
    for entry in watched_messages(bag, [topic], "poses", start_ns, stop_ns):
        frame = getattr(entry.message, "child_frame_id", "")
        world = entry.message.header.frame_id
        found[stamp_of(entry.message)] = _usable(_pose, entry.message)
    return _true_poses(found, frame, world)


def read_transforms(bag: Bag, parent: str, child: str, start_ns: int = 0, stop_ns: int = 2**63 - 1) -> TruePoses:
    """The transforms ``parent`` -> ``child`` on the TF topics as poses of ``child``.

    Those that were recorded from ``start_ns`` to before ``stop_ns``.

    Raises InputError where there are none.
    """
    found: dict[int, np.ndarray | None] = {}
    others: set[str] = set()
    for name, topic in bag.topics.items():
        if topic.type not in TRANSFORM_TYPES or name.rpartition("/")[2] == STATIC_TOPIC:
            continue
        for entry in watched_messages(bag, [name], "poses", start_ns, stop_ns):
            for stamped in entry.message.transforms:
                edge = stamped.header.frame_id.lstrip("/"), stamped.child_frame_id.lstrip("/")
                if edge == (parent, child):
                    found[stamp_of(stamped)] = _usable(matrix_from_transform, stamped.transform)
                else:
                    others.add(":".join(edge))
    if not found:
        raise InputError(
            f"the recording has no transform {parent}:{child}; there are: {', '.join(sorted(others)) or 'none'}"
        )
    return _true_poses(found, child, parent)


def depth_at_truth(
    depth: np.ndarray, K: np.ndarray, true_shape: tuple[int, int], calibration: CameraCalibration, step: int = 1
) -> np.ndarray:
    """``depth`` (h, w) seen by the pinhole camera ``K``, at the pixels (H, W) of the camera with ``calibration``, or of
    them only at every ``step``-th row and column.

    The nearest pixel's value; NaN outside. Both cameras are in one place and look the same way, so z-depth is the same.
    """
    key = depth.shape, np.asarray(K).tobytes(), true_shape, calibration.key(), step
    place, outside = _kept(_PLACES, key, lambda: _nearest_pixels(depth.shape, K, true_shape, calibration, step))
    sampled = depth.reshape(-1)[place].astype(np.float32, copy=False)
    sampled.reshape(-1)[outside] = np.nan
    return sampled


def _nearest_pixels(
    shape: tuple[int, ...], K: np.ndarray, true_shape: tuple[int, int], calibration: CameraCalibration, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where in a map of ``shape`` every ``step``-th pixel (H, W) of the truth is, and which of them (n,) are not in
    it."""
    rays = pixel_rays(*true_shape, calibration)[::step, ::step]
    u = np.rint(rays[..., 0] * K[0, 0] + K[0, 2])
    v = np.rint(rays[..., 1] * K[1, 1] + K[1, 2])
    inside = (u >= 0) & (u < shape[1]) & (v >= 0) & (v < shape[0])
    place = np.where(inside, v * shape[1] + u, 0).astype(np.intp)
    return place, np.flatnonzero(~inside)


def pixel_rays(height: int, width: int, calibration: CameraCalibration) -> np.ndarray:
    """Normalised coordinates (H, W, 2) of the pixels of an image, which may be smaller than the calibration's."""
    key = height, width, calibration.key()
    return _kept(_RAYS, key, lambda: _pixel_rays(height, width, calibration))


def _kept(kept: dict[tuple, _T], key: tuple, make: Callable[[], _T]) -> _T:
    """What is in ``kept``, or is made and kept in the place of the oldest."""
    if key not in kept:
        while len(kept) >= _MOST_KEPT:
            del kept[next(iter(kept))]
        kept[key] = make()
    return kept[key]


def _pixel_rays(height: int, width: int, calibration: CameraCalibration) -> np.ndarray:
    K = scaled_intrinsics(np.asarray(calibration.K, dtype=np.float64), calibration, height, width)
    v, u = np.mgrid[:height, :width].astype(np.float64)
    pixels = np.stack((u, v), axis=-1)
    if calibration.distortion_model == "none":
        return (pixels - K[:2, 2]) / np.diag(K)[:2]
    undistort = cv2.fisheye.undistortPoints if calibration.distortion_model == "equidistant" else cv2.undistortPoints
    rays = undistort(pixels.reshape(-1, 1, 2), K, np.array(calibration.D[:8], dtype=np.float64))
    return rays.reshape(height, width, 2)


def scaled_intrinsics(K: np.ndarray, calibration: CameraCalibration, height: int, width: int) -> np.ndarray:
    """``K`` (3, 3) of images of the calibration's size, for the same image at (``height``, ``width``) pixels."""
    scale = np.array((width / calibration.width, height / calibration.height))
    scaled = np.array(K, dtype=np.float64)
    scaled[:2, 2] = (scaled[:2, 2] + 0.5) * scale - 0.5  # pixel centres are whole numbers
    scaled[0, 0], scaled[1, 1] = scaled[0, 0] * scale[0], scaled[1, 1] * scale[1]
    return scaled


def _usable(matrix: Callable[[Any], np.ndarray], message: Any) -> np.ndarray | None:
    """(4, 4); None for what is no pose."""
    try:
        T = matrix(message)
    except InputError:
        return None
    return T if np.isfinite(T).all() else None


def _true_poses(found: Mapping[int, np.ndarray | None], frame: str, world: str) -> TruePoses:
    """Of the poses by stamp."""
    usable = {stamp: T for stamp, T in sorted(found.items()) if T is not None}
    poses = np.array(list(usable.values()), dtype=np.float64).reshape(-1, 4, 4)
    trajectory = Trajectory(np.array(list(usable), dtype=np.int64), poses)
    return TruePoses(trajectory, frame, world, tuple(stamp for stamp, T in found.items() if T is None))


def _pose(message: Any) -> np.ndarray:
    """(4, 4) of a message of POSE_TYPES."""
    inner = getattr(message, "pose", None) or message.transform
    inner = getattr(inner, "pose", inner)
    place = getattr(inner, "position", None) or inner.translation
    turn = getattr(inner, "orientation", None) or inner.rotation
    R = matrix_from_quat_xyzw(np.array((turn.x, turn.y, turn.z, turn.w)))
    return T_from(R, np.array((place.x, place.y, place.z)))


def pose_topics(bag: Bag) -> Iterator[str]:
    """Topics that may hold true poses: ours, else whatever ``ground_truth`` is in the name of."""
    for name, topic in sorted(bag.topics.items(), key=lambda item: item[0] != POSE_TOPIC):
        if topic.type in POSE_TYPES and ("ground_truth" in name or "groundtruth" in name):
            yield name
