"""Arrays to messages, whoever's classes those are. Pixel and point data go over as whole buffers.

Every message carries the stamp of the image that it came from.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from da3_ros.datatypes import CameraCalibration, Estimate, PointBuffer, ViewEstimate
from da3_ros.geometry.se3 import quat_xyzw_from_matrix

_NS = 1_000_000_000
_BIG_ENDIAN = sys.byteorder == "big"
_POINT_STEP = 16
_FLOAT32 = 7  # sensor_msgs/PointField
_ENCODINGS = {("float32", 2): "32FC1", ("uint16", 2): "16UC1", ("uint8", 2): "mono8", ("uint8", 3): "rgb8"}
# Where the covariance is not known: a variance that no consumer mistakes for knowledge.
_UNKNOWN_VARIANCE = 1e6


class MessageBuilder:
    """Makes messages of the classes that ``message_class`` gives for names such as ``sensor_msgs/msg/Image``.

    ``sequence`` turns a one-dimensional array into what those classes take for a field of variable length.
    """

    def __init__(self, message_class: Callable[[str], type], sequence: Callable[[np.ndarray], Any]):
        self._class = message_class
        self._sequence = sequence
        self._point_fields = [
            self._make("sensor_msgs/msg/PointField", name=name, offset=4 * index, datatype=_FLOAT32, count=1)
            for index, name in enumerate(("x", "y", "z", "rgb"))
        ]

    def time(self, stamp_ns: int) -> Any:
        """Nanoseconds to a message stamp."""
        return self._make("builtin_interfaces/msg/Time", sec=stamp_ns // _NS, nanosec=stamp_ns % _NS)

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """Header with stamp and frame."""
        return self._make("std_msgs/msg/Header", stamp=self.time(stamp_ns), frame_id=frame_id)

    def image(self, values: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """Image 32FC1 or 16UC1 (REP 118) or mono8 from (H, W) float32, uint16 or uint8; rgb8 from (H, W, 3) uint8."""
        height, width = values.shape[:2]
        return self._make(
            "sensor_msgs/msg/Image",
            header=self.header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding=_ENCODINGS[values.dtype.name, values.ndim],
            is_bigendian=int(_BIG_ENDIAN),
            step=values.nbytes // height,
            data=self._bytes(values),
        )

    def compressed_image(self, data: np.ndarray, kind: str, stamp_ns: int, frame_id: str) -> Any:
        """CompressedImage of the bytes (n,) uint8 of a picture file; ``kind`` is jpeg or png."""
        header = self.header(stamp_ns, frame_id)
        return self._make("sensor_msgs/msg/CompressedImage", header=header, format=kind, data=self._bytes(data))

    def camera_info(self, calibration: CameraCalibration, stamp_ns: int, frame_id: str) -> Any:
        """CameraInfo of images with that calibration."""
        K = np.asarray(calibration.K, dtype=np.float64)
        # The model must have a name; five zeros say that there is no distortion.
        distorted = calibration.distortion_model != "none"
        return self._make(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(stamp_ns, frame_id),
            height=calibration.height,
            width=calibration.width,
            distortion_model=calibration.distortion_model if distorted else "plumb_bob",
            d=self._sequence(np.array(calibration.D, dtype=np.float64) if distorted else np.zeros(5)),
            k=K.reshape(-1),
            r=np.eye(3).reshape(-1),
            p=np.hstack([K, np.zeros((3, 1))]).reshape(-1),
            binning_x=0,
            binning_y=0,
            roi=self._make(
                "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        )

    def cloud(self, points: PointBuffer, stamp_ns: int) -> Any:
        """PointCloud2 with x, y, z and packed rgb; organised when the buffer has more than one row."""
        height, width, point_step = points.data.shape
        assert point_step == _POINT_STEP, point_step
        return self._make(
            "sensor_msgs/msg/PointCloud2",
            header=self.header(stamp_ns, points.frame_id),
            height=height,
            width=width,
            fields=self._point_fields,
            is_bigendian=_BIG_ENDIAN,
            point_step=_POINT_STEP,
            row_step=_POINT_STEP * width,
            data=self._bytes(points.data),
            is_dense=points.dense,
        )

    def pose(self, T: np.ndarray) -> Any:
        """Pose from a rigid (4, 4) matrix; quaternion x, y, z, w."""
        return self._pose(T[:3, 3], quat_xyzw_from_matrix(T))

    def transform(self, T_parent_child: np.ndarray, stamp_ns: int, parent: str, child: str) -> Any:
        """TransformStamped that maps points of ``child`` to ``parent``."""
        return self._make(
            "geometry_msgs/msg/TransformStamped",
            header=self.header(stamp_ns, parent),
            child_frame_id=child,
            transform=self._make(
                "geometry_msgs/msg/Transform",
                translation=self._vector(T_parent_child[:3, 3]),
                rotation=self._quaternion(quat_xyzw_from_matrix(T_parent_child)),
            ),
        )

    def transforms(self, transforms: Iterable[Any]) -> Any:
        """TFMessage of ``transforms``."""
        return self._make("tf2_msgs/msg/TFMessage", transforms=list(transforms))

    def odometry(
        self, T_odom_child: np.ndarray, stamp_ns: int, odom: str, child: str, covariance: np.ndarray | None = None
    ) -> Any:
        """Odometry with the pose of ``child`` in ``odom``; its ``covariance`` (6, 6) is unknown if not given, and so is
        twist."""
        unknown = (np.eye(6) * _UNKNOWN_VARIANCE).reshape(-1)
        still = self._vector(np.zeros(3))
        return self._make(
            "nav_msgs/msg/Odometry",
            header=self.header(stamp_ns, odom),
            child_frame_id=child,
            pose=self._make(
                "geometry_msgs/msg/PoseWithCovariance",
                pose=self.pose(T_odom_child),
                covariance=unknown if covariance is None else np.asarray(covariance, np.float64).reshape(-1),
            ),
            twist=self._make(
                "geometry_msgs/msg/TwistWithCovariance",
                twist=self._make("geometry_msgs/msg/Twist", linear=still, angular=still),
                covariance=unknown,
            ),
        )

    def pose_stamped(self, T: np.ndarray, stamp_ns: int, frame_id: str) -> Any:
        """PoseStamped from a rigid (4, 4) matrix."""
        return self._make("geometry_msgs/msg/PoseStamped", header=self.header(stamp_ns, frame_id), pose=self.pose(T))

    def path(self, poses: Iterable[Any], stamp_ns: int, frame_id: str) -> Any:
        """Path of ``poses`` (PoseStamped), oldest first."""
        return self._make("nav_msgs/msg/Path", header=self.header(stamp_ns, frame_id), poses=list(poses))

    def window(self, estimate: Estimate, odom: str, description: Mapping[str, Any]) -> Any:
        """WindowEstimate with one entry for each view; ``description`` is ``Pipeline.description``.

        Only of an estimate that has poses.
        """
        return self._make(
            "da3_ros/msg/WindowEstimate",
            header=self.header(estimate.stamp_ns, odom),
            step=estimate.step,
            scale_source=estimate.scale.source,
            scale=float(estimate.scale.metres_per_unit),
            scale_stddev=float(estimate.scale.stddev),
            **self._tracking(estimate),
            model_variant=description["variant"],
            weights_trained=description["weights_trained"],
            views=self._camera_estimates(estimate),
        )

    def _tracking(self, estimate: Estimate) -> dict[str, Any]:
        tracking = estimate.tracking
        if tracking is None:
            return {"scale_sources": [], "scale_rejected": [], "scale_jumped": False, "tracking": "", "keyframe": False,
                    "overlap": math.nan, "agreement": math.nan}  # fmt: skip
        return {
            "scale_sources": list(tracking.scale_sources),
            "scale_rejected": list(tracking.scale_rejected),
            "scale_jumped": bool(tracking.scale_jumped),
            "tracking": tracking.status,
            "keyframe": tracking.keyframe,
            "overlap": tracking.overlap,
            "agreement": tracking.steady,
        }

    def _camera_estimates(self, estimate: Estimate) -> list[Any]:
        poses = np.stack([view.T_odom_cam for view in estimate.views if view.T_odom_cam is not None])
        quaternions = quat_xyzw_from_matrix(poses)  # one by one they would take longer than all the rest
        return [
            self._camera_estimate(view, quaternion, estimate)
            for view, quaternion in zip(estimate.views, quaternions, strict=True)
        ]

    def _camera_estimate(self, view: ViewEstimate, quaternion: np.ndarray, estimate: Estimate) -> Any:
        assert view.T_odom_cam is not None
        height, width = view.size_hw
        return self._make(
            "da3_ros/msg/CameraEstimate",
            header=self.header(view.stamp_ns, view.frame_id),
            camera=view.camera,
            newest=view.newest,
            reference=view.reference,
            pose=self._pose(view.T_odom_cam[:3, 3], quaternion),
            width=width,
            height=height,
            k=np.asarray(view.K, dtype=np.float64).reshape(-1),
            k_predicted=np.asarray(view.K_predicted, dtype=np.float64).reshape(-1),
            median_confidence=float(view.median_confidence),
            misfit_angle=_misfit(estimate, view, "misfit_rad"),
            misfit_distance=_misfit(estimate, view, "misfit_m"),
        )

    def _pose(self, position: np.ndarray, quaternion: np.ndarray) -> Any:
        x, y, z = position.tolist()
        point = self._make("geometry_msgs/msg/Point", x=x, y=y, z=z)
        return self._make("geometry_msgs/msg/Pose", position=point, orientation=self._quaternion(quaternion))

    def _quaternion(self, quaternion: np.ndarray) -> Any:
        x, y, z, w = quaternion.tolist()
        return self._make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)

    def _vector(self, values: np.ndarray) -> Any:
        x, y, z = (float(value) for value in values)
        return self._make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def _bytes(self, values: np.ndarray) -> Any:
        return self._sequence(np.ascontiguousarray(values).reshape(-1).view(np.uint8))

    def _make(self, kind: str, /, **fields: Any) -> Any:
        return self._class(kind)(**fields)


def _misfit(estimate: Estimate, view: ViewEstimate, name: str) -> float:
    """Of a camera of the newest set, NaN where there is none."""
    if estimate.tracking is None or not view.newest:
        return math.nan
    return float(getattr(estimate.tracking, name).get(view.camera, math.nan))
