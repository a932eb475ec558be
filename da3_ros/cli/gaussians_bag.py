"""Pictures of a recording for ``da3-ros gaussians``: some of its images at even distances, with their calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.highlevel.anyreader import AnyReaderError
from rosbags.typesys import Stores, get_typestore

from da3_ros.cli.gaussians_scene import spread
from da3_ros.datatypes import CameraCalibration, Frame
from da3_ros.errors import InputError
from da3_ros.ingest.convert import rosbags_converter
from da3_ros.ingest.from_msg import calibration_from_info, frame_from_compressed, frame_from_image

_IMAGE, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_INFO = "sensor_msgs/msg/CameraInfo"
_COMPRESSED_SUFFIX = "/compressed"
_DEPTH_ENCODINGS = ("16UC1", "32FC1", "64FC1")


def read_bag(
    path: Path, topics: Sequence[str], start_s: float, duration_s: float | None, most: int
) -> list[tuple[str, Frame]]:
    """At most ``most`` images, at even distances in order of time, each with a name made of topic and time.

    ``topics`` are Image and CompressedImage topics (none: all that hold pictures; raw where both are there).
    ``start_s`` and ``duration_s`` (None: to the end) are seconds from the start of the recording. A CameraInfo
    topic beside an image topic calibrates it. Raises InputError for a bag that cannot be read or has no such images,
    FrameError for a damaged image.
    """
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_KILTED)) as reader:
            return _read(reader, path, topics, start_s, duration_s, most)
    except AnyReaderError as error:
        raise InputError(f"{path} cannot be read as a recording: {' '.join(str(error).split())}") from error


def _read(
    reader: AnyReader, path: Path, topics: Sequence[str], start_s: float, duration_s: float | None, most: int
) -> list[tuple[str, Frame]]:
    start = reader.start_time + int(start_s * 1e9)
    stop = None if duration_s is None else start + int(duration_s * 1e9)
    connections = _image_connections(reader, path, topics)
    total = sum(1 for _ in reader.messages(connections, start, stop))
    if not total:
        raise InputError(f"{path} has no images from {start_s:g} s on: it is {reader.duration / 1e9:.1f} s long")
    wanted = set(spread(total, min(most, total)))
    calibrations = _calibrations(reader, {connection.topic for connection in connections})
    found = []
    for number, (connection, time_ns, raw) in enumerate(reader.messages(connections, start, stop)):
        if number in wanted:
            message, topic = reader.deserialize(raw, connection.msgtype), connection.topic
            frame = _frame(message, topic, calibrations.get(topic))
            found.append((f"{topic} at {(time_ns - reader.start_time) / 1e9:.3f} s", frame))
    return found


def _frame(message: Any, topic: str, calibration: CameraCalibration | None) -> Frame:
    if message.__msgtype__ == _COMPRESSED:
        return frame_from_compressed(message, topic, calibration=calibration)
    return frame_from_image(message, topic, calibration=calibration, converter=rosbags_converter)


def _image_connections(reader: AnyReader, path: Path, topics: Sequence[str]) -> list[Any]:
    images = {one.topic: one for one in reader.connections if one.msgtype in (_IMAGE, _COMPRESSED)}
    missing = [topic for topic in topics if topic not in images]
    if missing:
        raise InputError(f"{path} has no image topic {missing[0]}; there are: {', '.join(sorted(images)) or 'none'}")
    chosen = list(topics) or [topic for topic in images if _holds_pictures(reader, images[topic], images)]
    if not chosen:
        raise InputError(f"{path} has no topic with pictures: record sensor_msgs/Image or CompressedImage")
    return [one for one in reader.connections if one.topic in chosen]


def _holds_pictures(reader: AnyReader, connection: Any, images: dict[str, Any]) -> bool:
    """Whether a topic has pictures, not depth, and is not the compressed form of another one that is there."""
    if connection.topic.endswith(_COMPRESSED_SUFFIX) and connection.topic.removesuffix(_COMPRESSED_SUFFIX) in images:
        return False
    for _, _, raw in reader.messages([connection]):
        message: Any = reader.deserialize(raw, connection.msgtype)
        if connection.msgtype == _IMAGE:
            return message.encoding not in _DEPTH_ENCODINGS
        return "compressedDepth" not in message.format
    return False


def _calibrations(reader: AnyReader, topics: set[str]) -> dict[str, CameraCalibration]:
    """By image topic, from the first message of the camera_info topic beside it."""
    beside = {topic: topic.removesuffix(_COMPRESSED_SUFFIX).rpartition("/")[0] + "/camera_info" for topic in topics}
    infos: dict[str, Any] = {}
    for connection in reader.connections:
        if connection.msgtype == _INFO and connection.topic in beside.values() and connection.topic not in infos:
            for _, _, raw in reader.messages([connection]):
                infos[connection.topic] = reader.deserialize(raw, _INFO)
                break
    rectified = {topic: "rect" in topic.removesuffix(_COMPRESSED_SUFFIX).rpartition("/")[2] for topic in topics}
    return {
        topic: calibration_from_info(infos[info], topic, rectified[topic])
        for topic, info in beside.items()
        if info in infos
    }
