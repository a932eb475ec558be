"""Distances that the robot's own sensors measure, as points on the robot: a source of metric scale at a few pixels."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from da3_ros.datatypes import FrameSet
from da3_ros.errors import InputError
from da3_ros.geometry.se3 import transform_points

RANGE_TYPES = {"range": "sensor_msgs/msg/Range", "depth": "sensor_msgs/msg/Image"}
# Readings that lie farther from the images in time say nothing of them.
_TOLERANCE_NS = 100_000_000
_KEPT = 50
_GRID = 8  # a depth image is read at so many pixels a side
_DTYPES = {"32FC1": (np.float32, 1.0), "16UC1": (np.uint16, 1e-3)}


@dataclass(frozen=True)
class Reading:
    """``points`` (K, 3) metres in the frame ``frame_id``."""

    stamp_ns: int
    frame_id: str
    points: np.ndarray


def reading_from_range(message: Any) -> Reading | None:
    """Of a sensor_msgs/Range, whose beam is its frame's x axis; None where it measured nothing."""
    value = float(message.range)
    if not np.isfinite(value) or not message.min_range <= value <= message.max_range or value <= 0:
        return None
    return Reading(_stamp(message), message.header.frame_id, np.array([[value, 0.0, 0.0]]))


def reading_from_depth(message: Any, info: Any) -> Reading | None:
    """Of a rectified depth image 32FC1 (metres) or 16UC1 (millimetres) with its CameraInfo, at a few pixels.

    None where none of them has depth. Raises InputError for another encoding, and for a CameraInfo of another size.
    """
    if message.encoding not in _DTYPES:
        raise InputError(f"a depth image of encoding {message.encoding} cannot be used: publish 32FC1 or 16UC1")
    if (info.height, info.width) != (message.height, message.width):
        raise InputError(
            f"the depth image has {message.width}x{message.height} pixels, its CameraInfo {info.width}x{info.height}"
        )
    kind, unit = _DTYPES[message.encoding]
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    depth = rows[:, : message.width * dtype.itemsize].view(dtype)
    v = ((np.arange(_GRID) + 0.5) * message.height / _GRID).astype(int)
    u = ((np.arange(_GRID) + 0.5) * message.width / _GRID).astype(int)
    z = depth[np.ix_(v, u)].astype(np.float64) * unit
    K = np.asarray(info.p, dtype=np.float64).reshape(3, 4)
    x, y = (u - K[0, 2]) / K[0, 0], (v[:, None] - K[1, 2]) / K[1, 1]
    points = np.stack([x * z, y * z, z], axis=-1).reshape(-1, 3)
    points = points[np.isfinite(points).all(-1) & (points[:, 2] > 0)]
    return Reading(_stamp(message), message.header.frame_id, points) if len(points) else None


class RangeReadings:
    """The newest readings. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readings: deque[Reading] = deque(maxlen=_KEPT)

    def add(self, reading: Reading | None) -> None:
        """Another reading, if it is one."""
        if reading is not None:
            with self._lock:
                self._readings.append(reading)

    def clear(self) -> None:
        """Forget all, as after a clock jump."""
        with self._lock:
            self._readings.clear()

    def attach(self, frame_set: FrameSet, T_base_sensor: Callable[[str], np.ndarray | None]) -> FrameSet:
        """``frame_set`` with the points of the reading nearest in time; without where there is none, or no transform.

        ``T_base_sensor``: frame id -> (4, 4), None where it is not known; not asked where the sensor's frame is that of
        a camera, as of depth that is registered to its images.
        """
        with self._lock:
            nearest = min(self._readings, key=lambda one: abs(one.stamp_ns - frame_set.stamp_ns), default=None)
        if nearest is None or abs(nearest.stamp_ns - frame_set.stamp_ns) > _TOLERANCE_NS:
            return frame_set
        if any(frame.frame_id == nearest.frame_id for frame in frame_set.frames):
            return replace(frame_set, ranges=nearest.points, ranges_frame=nearest.frame_id)
        T = T_base_sensor(nearest.frame_id)
        return frame_set if T is None else replace(frame_set, ranges=transform_points(T, nearest.points))


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return stamp.sec * 1_000_000_000 + stamp.nanosec
