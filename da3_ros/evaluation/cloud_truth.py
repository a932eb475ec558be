"""True depth from point clouds (LiDAR, or a map of the place): the points as each camera sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation.stamped import StampedMessages, stamp_of
from da3_ros.geometry.distortion import distort
from da3_ros.geometry.se3 import invert
from da3_ros.ingest.point_cloud import points_from_cloud

CLOUD = "sensor_msgs/msg/PointCloud2"
_SIDE = 9  # pixels of the square in which a nearer point may hide a farther one
_BEHIND = 1.15  # times the depth of the nearest point there, beyond which a point is hidden
_LIMIT = 4.0  # tangent of the widest angle off the axis (76 degrees): beyond, distortion models fold back


def depth_of_points(points: np.ndarray, calibration: CameraCalibration) -> np.ndarray:
    """Z-depth (H, W) float32 of ``points`` (n, 3) in the optical frame, in the camera's own (distorted) picture.

    NaN where there is no point. Of the points of one pixel the nearest counts. Points come one by one, so that those
    behind a nearer surface can be seen between its points: a point is left out where another one in a square of 9
    pixels around it is nearer by more than 15 % of its depth.
    """
    height, width = calibration.height, calibration.width
    depth = np.full((height, width), np.inf, dtype=np.float32)
    points = points[np.isfinite(points).all(axis=1) & (points[:, 2] > 0)]
    rays = points[:, :2] / points[:, 2:]
    inside = np.linalg.norm(rays, axis=1) < _LIMIT
    rays, z = rays[inside], points[inside, 2]
    bent = distort(rays, calibration.D, calibration.distortion_model)
    K = np.asarray(calibration.K, dtype=np.float64)
    u = np.rint(bent[:, 0] * K[0, 0] + K[0, 2])
    v = np.rint(bent[:, 1] * K[1, 1] + K[1, 2])
    seen = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    np.minimum.at(depth, (v[seen].astype(int), u[seen].astype(int)), z[seen].astype(np.float32))
    nearest = cv2.erode(depth, np.ones((_SIDE, _SIDE), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=np.inf)
    return np.where(np.isfinite(depth) & (depth <= nearest * np.float32(_BEHIND)), depth, np.nan)


class CloudDepth:
    """True depth of cameras from the clouds on one topic, of the stamp of each picture.

    ``static(a, b)``: T_a_b of two frames that do not move against each other; ``moving(frame, stamp)``: T_world_frame
    by the true poses; None where they are not known. ``is_map``: the clouds are in that world, and each holds until the
    next one comes; otherwise one counts for pictures within the tolerance, carried along the true motion in between
    where that is known. Clouds in a frame that nothing connects with the camera, and such without x, y, z, raise
    InputError.
    """

    def __init__(
        self,
        messages: StampedMessages,
        is_map: bool,
        static: Callable[[str, str], np.ndarray | None],
        moving: Callable[[str, int], np.ndarray | None],
    ):
        self.topic = messages.topic
        self._messages, self._is_map, self._static, self._moving = messages, is_map, static, moving
        self._read: tuple[Any, np.ndarray] = (None, np.empty((0, 3)))

    def at(self, stamp_ns: int, frame_id: str, calibration: CameraCalibration) -> np.ndarray | None:
        """Depth (H, W) of the picture of the camera with ``frame_id``; None where there is no cloud for it, or where
        the true pose that would be needed is not known. Stamps must not decrease from call to call."""
        now = self._moving(frame_id, stamp_ns)
        if self._is_map:
            message = self._messages.latest(stamp_ns)
            if message is None or now is None:
                return None
            return depth_of_points(_moved(invert(now), self._points(message)), calibration)
        message = self._messages.nearest(stamp_ns)
        if message is None:
            return None
        source = message.header.frame_id.lstrip("/")
        T_cam_cloud = self._static(frame_id, source)
        if T_cam_cloud is None:
            raise InputError(
                f"{self.topic} is in frame '{source}', and no static transform connects it with the camera's "
                f"'{frame_id}': record /tf_static (a map is in the frame that the true poses are in)"
            )
        then = self._moving(frame_id, stamp_of(message))
        if now is not None and then is not None:
            T_cam_cloud = invert(now) @ then @ T_cam_cloud
        return depth_of_points(_moved(T_cam_cloud, self._points(message)), calibration)

    def _points(self, message: Any) -> np.ndarray:
        if self._read[0] is not message:
            self._read = message, points_from_cloud(message, self.topic)
        return self._read[1]


def _moved(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ T[:3, :3].T + T[:3, 3]
