"""Writes a demo sequence as rosbag2 (mcap), topic by topic as a robot with these cameras would publish it.

For each camera ``<c>``: ``/<c>/image_raw`` (or ``/<c>/image_raw/compressed``), ``/<c>/camera_info`` and, where it
is known, ``/<c>/ground_truth/depth`` (32FC1). ``/tf_static`` holds base_link -> camera frames. The true motion is in
``/ground_truth/odometry`` and on ``/tf`` as world -> ground_truth/<frame>, apart from the node's own estimates.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from da3_ros.cli.demo_sequence import Sequence, SequenceCamera, SequenceImage, SequenceStep
from da3_ros.datatypes import CameraCalibration
from da3_ros.geometry.se3 import quat_xyzw_from_matrix

BASE_FRAME = "base_link"
WORLD_FRAME = "world"
GROUND_TRUTH_ODOMETRY = "/ground_truth/odometry"

_NEVER = QosTime(2147483647, 4294967295)


def image_topic(camera: str, transport: str) -> str:
    """Where the pictures of ``camera`` are; ``transport`` is raw or compressed."""
    return f"/{camera}/image_raw" + ("/compressed" if transport == "compressed" else "")


def camera_info_topic(camera: str) -> str:
    """Where the calibration of ``camera`` is."""
    return f"/{camera}/camera_info"


def ground_truth_topic(camera: str) -> str:
    """Where the true depth of ``camera`` is."""
    return f"/{camera}/ground_truth/depth"


def _qos(durability: QosDurability = QosDurability.VOLATILE) -> Qos:
    return Qos(
        QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, durability, _NEVER, _NEVER, QosLiveliness.AUTOMATIC, _NEVER,
        False,
    )  # fmt: skip


def write_sequence(sequence: Sequence, path: Path, transport: str) -> None:
    """Write ``sequence`` to the new bag folder ``path``; reads its steps one by one."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        bag = _Bag(writer)
        static = False
        for step in sequence.read():
            if not static:
                bag.write_rig(sequence.cameras, step.stamp_ns)
                static = True
            cameras = {camera.name: camera for camera in sequence.cameras}
            for image in step.images:
                bag.write_image(cameras[image.camera], image, step.stamp_ns, transport)
            bag.write_pose(step, sequence.tracked_frame)


class _Bag:
    """Messages of the standard types, made and written in one go."""

    def __init__(self, writer: Writer):
        self._writer = writer
        self._store = get_typestore(Stores.ROS2_KILTED)
        self._connections: dict[str, Any] = {}

    def write_rig(self, cameras: Iterable[SequenceCamera], stamp_ns: int) -> None:
        """The extrinsics that are known, in one latched message."""
        transforms = [
            self._transform(camera.T_base_cam, stamp_ns, BASE_FRAME, camera.frame_id)
            for camera in cameras
            if camera.T_base_cam is not None
        ]
        if transforms:
            message = self._make("tf2_msgs/msg/TFMessage", transforms)
            self._write("/tf_static", message, stamp_ns, _qos(QosDurability.TRANSIENT_LOCAL))

    def write_image(self, camera: SequenceCamera, image: SequenceImage, stamp_ns: int, transport: str) -> None:
        """One picture with its calibration before it and its true depth after it; ``stamp_ns`` is that of the step."""
        header = self._header(image.stamp_ns, camera.frame_id)
        if camera.calibration is not None:
            self._write(camera_info_topic(camera.name), self._camera_info(header, camera.calibration), stamp_ns)
        if transport == "compressed":
            kind, data = _encoded(image)
            picture = self._make("sensor_msgs/msg/CompressedImage", header, kind, data)
        else:
            picture = self._image(header, image.rgb, "rgb8")
        self._write(image_topic(camera.name, transport), picture, stamp_ns)
        if image.depth is not None:
            self._write(ground_truth_topic(camera.name), self._image(header, image.depth, "32FC1"), stamp_ns)

    def write_pose(self, step: SequenceStep, child: str) -> None:
        """The true pose as odometry and transform; nothing where it is not known."""
        T, stamp_ns = step.T_world_tracked, step.stamp_ns
        if T is None:
            return
        vector = self._store.types["geometry_msgs/msg/Vector3"]
        twist = self._make("geometry_msgs/msg/Twist", vector(0.0, 0.0, 0.0), vector(0.0, 0.0, 0.0))
        pose = self._make(
            "geometry_msgs/msg/Pose", self._make("geometry_msgs/msg/Point", *T[:3, 3].tolist()), self._quaternion(T)
        )
        known, unknown = np.zeros(36), np.zeros(36)
        unknown[0] = -1.0  # by convention of sensor_msgs: not estimated
        odometry = self._make(
            "nav_msgs/msg/Odometry",
            self._header(stamp_ns, WORLD_FRAME),
            child,
            self._make("geometry_msgs/msg/PoseWithCovariance", pose, known),
            self._make("geometry_msgs/msg/TwistWithCovariance", twist, unknown),
        )
        self._write(GROUND_TRUTH_ODOMETRY, odometry, stamp_ns)
        transform = self._transform(T, stamp_ns, WORLD_FRAME, f"ground_truth/{child}")
        self._write("/tf", self._make("tf2_msgs/msg/TFMessage", [transform]), stamp_ns)

    def _write(self, topic: str, message: Any, stamp_ns: int, qos: Qos | None = None) -> None:
        name = message.__msgtype__
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, name, typestore=self._store, offered_qos_profiles=[qos or _qos()]
            )
        self._writer.write(self._connections[topic], stamp_ns, self._store.serialize_cdr(message, name))

    def _make(self, name: str, *values: Any) -> Any:
        return self._store.types[name](*values)

    def _header(self, stamp_ns: int, frame: str) -> Any:
        stamp = self._make("builtin_interfaces/msg/Time", stamp_ns // 1_000_000_000, stamp_ns % 1_000_000_000)
        return self._make("std_msgs/msg/Header", stamp, frame)

    def _image(self, header: Any, pixels: np.ndarray, encoding: str) -> Any:
        data = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
        height, width = pixels.shape[:2]
        return self._make("sensor_msgs/msg/Image", header, height, width, encoding, 0, len(data) // height, data)

    def _camera_info(self, header: Any, calibration: CameraCalibration) -> Any:
        K = calibration.K
        P = np.hstack([K, np.zeros((3, 1))])
        region = self._make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        # The model must have a name; five zeros say that there is no distortion.
        model = "plumb_bob" if calibration.distortion_model == "none" else calibration.distortion_model
        D = np.array(calibration.D or (0.0,) * 5, dtype=np.float64)
        return self._make(
            "sensor_msgs/msg/CameraInfo", header, calibration.height, calibration.width, model, D,
            K.astype(np.float64).reshape(-1), np.eye(3).reshape(-1), P.astype(np.float64).reshape(-1), 0, 0, region,
        )  # fmt: skip

    def _transform(self, T: np.ndarray, stamp_ns: int, parent: str, child: str) -> Any:
        translation = self._make("geometry_msgs/msg/Vector3", *T[:3, 3].tolist())
        transform = self._make("geometry_msgs/msg/Transform", translation, self._quaternion(T))
        header = self._header(stamp_ns, parent)
        return self._make("geometry_msgs/msg/TransformStamped", header, child, transform)

    def _quaternion(self, T: np.ndarray) -> Any:
        return self._make("geometry_msgs/msg/Quaternion", *quat_xyzw_from_matrix(T).tolist())


def _encoded(image: SequenceImage) -> tuple[str, np.ndarray]:
    """Format and bytes of a compressed picture: those of its file as they are, else a new JPEG."""
    suffix = "" if image.file is None else image.file.suffix.lower()
    if image.file is not None and suffix in (".jpg", ".jpeg", ".png"):
        return "png" if suffix == ".png" else "jpeg", np.fromfile(image.file, np.uint8)
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.rgb).save(buffer, "JPEG", quality=92)
    return "jpeg", np.frombuffer(buffer.getvalue(), np.uint8)
