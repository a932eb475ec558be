"""Estimates to messages. Pixel and point data go over as whole buffers, never element by element.

Every message carries the stamp of the image that it came from.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Transform, TransformStamped, Vector3
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from da3_ros.datatypes import CameraOutput, Estimate, PointBuffer, ViewEstimate
from da3_ros.msg import CameraEstimate, WindowEstimate
from da3_ros.ros.compat import tf_transformations

_NS = 1_000_000_000
_BIG_ENDIAN = sys.byteorder == "big"
_POINT_STEP = 16
_POINT_FIELDS = [
    PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
    for index, name in enumerate(("x", "y", "z", "rgb"))
]
_ENCODINGS = {"float32": "32FC1", "uint16": "16UC1", "uint8": "mono8"}
# Poses come without covariance until there is tracking: a variance that no consumer mistakes for knowledge.
_UNKNOWN_VARIANCE = 1e6


def to_time(stamp_ns: int) -> Time:
    """Nanoseconds to a message stamp."""
    return Time(sec=stamp_ns // _NS, nanosec=stamp_ns % _NS)


def to_header(stamp_ns: int, frame_id: str) -> Header:
    """Header with stamp and frame."""
    return Header(stamp=to_time(stamp_ns), frame_id=frame_id)


def to_bytes(values: np.ndarray) -> array:
    """The buffer of ``values`` as the array type that message fields take without looking at each element."""
    data = array("B")
    if values.size:
        data.frombytes(np.ascontiguousarray(values).data.cast("B"))
    return data


def to_image(values: np.ndarray, stamp_ns: int, frame_id: str) -> Image:
    """Image 32FC1 or 16UC1 (REP 118) or mono8 from (H, W) float32, uint16 or uint8."""
    height, width = values.shape
    return Image(
        header=to_header(stamp_ns, frame_id),
        height=height,
        width=width,
        encoding=_ENCODINGS[values.dtype.name],
        is_bigendian=int(_BIG_ENDIAN),
        step=width * values.itemsize,
        data=to_bytes(values),
    )


def to_camera_info(output: CameraOutput) -> CameraInfo:
    """CameraInfo of the published depth: a rectified pinhole image of exactly that size."""
    height, width = output.size_hw
    info = CameraInfo(header=to_header(output.stamp_ns, output.frame_id), height=height, width=width)
    K = np.asarray(output.K, dtype=np.float64)
    info.distortion_model = "plumb_bob"
    info.d = [0.0] * 5
    info.k = K.reshape(-1)
    info.r = np.eye(3).reshape(-1)
    info.p = np.hstack([K, np.zeros((3, 1))]).reshape(-1)
    return info


def to_cloud(points: PointBuffer, stamp_ns: int) -> PointCloud2:
    """PointCloud2 with x, y, z and packed rgb; organised when the buffer has more than one row."""
    height, width, point_step = points.data.shape
    assert point_step == _POINT_STEP, point_step
    return PointCloud2(
        header=to_header(stamp_ns, points.frame_id),
        height=height,
        width=width,
        fields=_POINT_FIELDS,
        is_bigendian=_BIG_ENDIAN,
        point_step=_POINT_STEP,
        row_step=_POINT_STEP * width,
        data=to_bytes(points.data),
        is_dense=points.dense,
    )


def to_pose(T: np.ndarray) -> Pose:
    """Pose from a rigid (4, 4) matrix; quaternion x, y, z, w."""
    x, y, z = (float(value) for value in T[:3, 3])
    return Pose(position=Point(x=x, y=y, z=z), orientation=_quaternion(T))


def to_transform(T_parent_child: np.ndarray, stamp_ns: int, parent: str, child: str) -> TransformStamped:
    """TransformStamped that maps points of ``child`` to ``parent``."""
    x, y, z = (float(value) for value in T_parent_child[:3, 3])
    return TransformStamped(
        header=to_header(stamp_ns, parent),
        child_frame_id=child,
        transform=Transform(translation=Vector3(x=x, y=y, z=z), rotation=_quaternion(T_parent_child)),
    )


def from_transform(transform: Transform) -> np.ndarray:
    """(4, 4) float64 matrix of a Transform message."""
    rotation, translation = transform.rotation, transform.translation
    T = tf_transformations.quaternion_matrix([rotation.x, rotation.y, rotation.z, rotation.w])
    T[:3, 3] = translation.x, translation.y, translation.z
    return T


def to_odometry(T_odom_child: np.ndarray, stamp_ns: int, odom: str, child: str) -> Odometry:
    """Odometry with the pose of ``child`` in ``odom``; covariance and twist are marked as unknown."""
    message = Odometry(header=to_header(stamp_ns, odom), child_frame_id=child)
    message.pose.pose = to_pose(T_odom_child)
    unknown = (np.eye(6) * _UNKNOWN_VARIANCE).reshape(-1)
    message.pose.covariance = unknown
    message.twist.covariance = unknown
    return message


def to_pose_stamped(T: np.ndarray, stamp_ns: int, frame_id: str) -> PoseStamped:
    """PoseStamped from a rigid (4, 4) matrix."""
    return PoseStamped(header=to_header(stamp_ns, frame_id), pose=to_pose(T))


def to_path(poses: Iterable[PoseStamped], stamp_ns: int, frame_id: str) -> Path:
    """Path of ``poses``, oldest first."""
    return Path(header=to_header(stamp_ns, frame_id), poses=list(poses))


def to_window(estimate: Estimate, odom: str, description: Mapping[str, Any]) -> WindowEstimate:
    """WindowEstimate with one entry for each view; ``description`` is ``Pipeline.description``.

    Only of an estimate that has poses.
    """
    return WindowEstimate(
        header=to_header(estimate.stamp_ns, odom),
        step=estimate.step,
        scale_source=estimate.scale.source,
        scale=float(estimate.scale.metres_per_unit),
        scale_stddev=float(estimate.scale.stddev),
        model_variant=description["variant"],
        weights_trained=description["weights_trained"],
        views=[_camera_estimate(view) for view in estimate.views],
    )


def _camera_estimate(view: ViewEstimate) -> CameraEstimate:
    assert view.T_odom_cam is not None
    height, width = view.size_hw
    return CameraEstimate(
        header=to_header(view.stamp_ns, view.frame_id),
        camera=view.camera,
        newest=view.newest,
        reference=view.reference,
        pose=to_pose(view.T_odom_cam),
        width=width,
        height=height,
        k=np.asarray(view.K, dtype=np.float64).reshape(-1),
        k_predicted=np.asarray(view.K_predicted, dtype=np.float64).reshape(-1),
        median_confidence=float(view.median_confidence),
    )


def _quaternion(T: np.ndarray) -> Quaternion:
    x, y, z, w = (float(value) for value in tf_transformations.quaternion_from_matrix(T))
    return Quaternion(x=x, y=y, z=z, w=w)
