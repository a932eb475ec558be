"""Small recordings of every kind, written with the rosbags library."""

from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
ROS2, ROS1 = get_typestore(Stores.ROS2_KILTED), get_typestore(Stores.ROS1_NOETIC)
ROS1.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", "tf2_msgs/msg/TFMessage"))
SUFFIXES = {StoragePlugin.MCAP: ".mcap", StoragePlugin.SQLITE3: ".db3"}


class Messages:
    """Messages of one typestore."""

    def __init__(self, store: Any):
        self.store = store
        self.ros1 = "seq" in [name for name, _ in store.fielddefs["std_msgs/msg/Header"][1]]

    def make(self, kind: str, *values: Any) -> Any:
        return self.store.types[kind](*values)

    def header(self, stamp_ns: int, frame: str) -> Any:
        stamp = self.make("builtin_interfaces/msg/Time", stamp_ns // 10**9, stamp_ns % 10**9)
        sequence = (0,) if self.ros1 else ()
        return self.make("std_msgs/msg/Header", *sequence, stamp, frame)

    def image(self, stamp_ns: int, pixels: np.ndarray, encoding: str = "rgb8", frame: str = "camera") -> Any:
        data = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
        height, width = pixels.shape[:2]
        step = len(data) // height
        return self.make("sensor_msgs/msg/Image", self.header(stamp_ns, frame), height, width, encoding, 0, step, data)

    def compressed(self, stamp_ns: int, data: bytes, kind: str = "jpeg", frame: str = "camera") -> Any:
        pixels = np.frombuffer(data, np.uint8)
        return self.make("sensor_msgs/msg/CompressedImage", self.header(stamp_ns, frame), kind, pixels)

    def info(self, stamp_ns: int, width: int, height: int, focal: float = 50.0, frame: str = "camera") -> Any:
        K = np.array([focal, 0, (width - 1) / 2, 0, focal, (height - 1) / 2, 0, 0, 1])
        P = np.hstack([K.reshape(3, 3), np.zeros((3, 1))]).reshape(-1)
        region = self.make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        return self.make(
            "sensor_msgs/msg/CameraInfo", self.header(stamp_ns, frame), height, width, "plumb_bob", np.zeros(5), K,
            np.eye(3).reshape(-1), P, 0, 0, region,
        )  # fmt: skip

    def transforms(self, stamp_ns: int, *edges: tuple[str, str, tuple[float, float, float]]) -> Any:
        made = []
        for parent, child, place in edges:
            rotation = self.make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0)
            transform = self.make(
                "geometry_msgs/msg/Transform", self.make("geometry_msgs/msg/Vector3", *place), rotation
            )
            header = self.header(stamp_ns, parent)
            made.append(self.make("geometry_msgs/msg/TransformStamped", header, child, transform))
        return self.make("tf2_msgs/msg/TFMessage", made)

    def odometry(self, stamp_ns: int, frame: str, child: str) -> Any:
        """Of a ``child`` that stands at the origin of ``frame``."""
        point, vector = self.make("geometry_msgs/msg/Point", 0, 0, 0), self.make("geometry_msgs/msg/Vector3", 0, 0, 0)
        pose = self.make("geometry_msgs/msg/Pose", point, self.make("geometry_msgs/msg/Quaternion", 0, 0, 0, 1))
        twist = self.make("geometry_msgs/msg/Twist", vector, vector)
        return self.make(
            "nav_msgs/msg/Odometry", self.header(stamp_ns, frame), child,
            self.make("geometry_msgs/msg/PoseWithCovariance", pose, np.zeros(36)),
            self.make("geometry_msgs/msg/TwistWithCovariance", twist, np.zeros(36)),
        )  # fmt: skip

    def text(self, text: str) -> Any:
        return self.make("std_msgs/msg/String", text)


Recorded = list[tuple[str, int, Any]]  # topic, receive time, message


def camera_messages(messages: Messages, count: int = 6, size: int = 8, topic: str = "/front/image_raw") -> Recorded:
    """Pictures whose pixels all have their number, and a CameraInfo before each."""
    recorded: Recorded = []
    for number in range(count):
        stamp_ns = START_NS + number * STEP_NS
        info_topic = topic.rpartition("/")[0] + "/camera_info"
        recorded.append((info_topic, stamp_ns + 1000, messages.info(stamp_ns, size, size)))
        pixels = np.full((size, size, 3), number, np.uint8)
        recorded.append((topic, stamp_ns + 2000, messages.image(stamp_ns, pixels)))
    return recorded


def write_ros2(
    path: Path,
    recorded: Recorded,
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """A rosbag2 folder at ``path``."""
    writer = Writer(path, version=9, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        connections: dict[str, Any] = {}
        for topic, receive_ns, message in recorded:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=ROS2)
            writer.write(connections[topic], receive_ns, ROS2.serialize_cdr(message, kind))
    return path


def write_ros1(path: Path, recorded: Recorded, compression: Any = None) -> Path:
    """A ROS 1 bag file at ``path``."""
    writer = Ros1Writer(path)
    if compression is not None:
        writer.set_compression(compression)
    with writer:
        connections: dict[str, Any] = {}
        for topic, receive_ns, message in recorded:
            kind = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=ROS1)
            writer.write(connections[topic], receive_ns, ROS1.serialize_ros1(message, kind))
    return path


def storage_file(folder: Path) -> Path:
    """The only data file of a rosbag2 folder."""
    (file,) = [file for file in folder.iterdir() if file.name != "metadata.yaml"]
    return file
