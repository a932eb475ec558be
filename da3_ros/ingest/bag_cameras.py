"""Which topics of a recording are cameras: pictures by type and content, calibration beside them by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from da3_ros.errors import InputError
from da3_ros.ingest.bag import Bag

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
COMPRESSED_TOPIC = "/compressed"
# What image topics of one camera are called, the ones that say most of the scene first.
_PREFERRED = ("image_raw", "image_color", "image_rect_color", "image_rect", "image", "image_mono")
# Masks that the node publishes beside a camera's images.
_MASKS = ("dynamic", "sky")


@dataclass(frozen=True)
class BagCamera:
    """A camera of a recording. ``info_topic`` None: no CameraInfo was recorded for it."""

    name: str
    image_topic: str
    info_topic: str | None
    compressed: bool
    rectified: bool


def find_cameras(bag: Bag, topics: Sequence[str] = ()) -> list[BagCamera]:
    """The cameras of ``bag``: those of the image ``topics``, or without any named all that hold pictures.

    Depth images are no pictures; of several image topics in one namespace the rawest colour one is taken, and a raw
    topic rather than its compressed form. A camera is named after its namespace (``/front/left/image_raw``:
    front_left). Raises InputError for topics that are not there, and where there are no pictures.
    """
    images = {name: topic for name, topic in bag.topics.items() if topic.type in (IMAGE, COMPRESSED_IMAGE)}
    listed = ", ".join(sorted(images)) or "none"
    missing = [topic for topic in topics if topic not in images]
    if missing:
        raise InputError(f"the recording has no image topic {missing[0]}; there are: {listed}")
    chosen = list(topics) or _best([name for name in sorted(images) if _holds_pictures(bag, name)])
    if not chosen:
        counted = ", ".join(f"{name} with {bag.count([name])} messages" for name in sorted(images)) or "none"
        lost = f"; lost of it: {'; '.join(bag.lost)}" if bag.lost else ""
        raise InputError(f"the recording has no topic with pictures (image topics: {counted}){lost}")
    names = _names(chosen)
    return [
        BagCamera(
            names[topic],
            topic,
            _info_topic(bag, topic),
            images[topic].type == COMPRESSED_IMAGE,
            "rect" in _split(topic)[1],
        )
        for topic in chosen
    ]


def _holds_pictures(bag: Bag, topic: str) -> bool:
    """Whether the first message is a picture: not depth, masks, or an empty topic."""
    if _split(topic)[1] in _MASKS:
        return False
    for found in bag.messages([topic]):
        if found.type == IMAGE:
            return re.match(r"(16U|32F|64F|8S|16S|32S)", found.message.encoding) is None
        return "compressedDepth" not in found.message.format and re.match(r"(16U|32F)", found.message.format) is None
    return False


def _best(topics: Sequence[str]) -> list[str]:
    """One topic for each namespace."""
    best: dict[str, str] = {}
    for topic in topics:
        folder, _ = _split(topic)
        if folder not in best or _rank(topic) < _rank(best[folder]):
            best[folder] = topic
    return sorted(best.values())


def _rank(topic: str) -> tuple[int, str]:
    """Smallest for the topic to take; of two forms of one the raw one, whose name is the shorter."""
    _, last = _split(topic)
    return _PREFERRED.index(last) if last in _PREFERRED else len(_PREFERRED), topic


def _split(topic: str) -> tuple[str, str]:
    """Namespace and last part of an image topic, whether compressed or not."""
    folder, _, last = topic.removesuffix(COMPRESSED_TOPIC).rpartition("/")
    return folder, last


def _names(topics: Sequence[str]) -> dict[str, str]:
    """A name for each topic that can be part of topic and parameter names: its namespace."""
    names: dict[str, str] = {}
    for topic in topics:
        name = re.sub(r"[^a-zA-Z0-9_]+", "_", _split(topic)[0].strip("/")) or "camera"
        name = name if name[0].isalpha() else f"camera_{name}"
        while name in names.values():
            name += "_2"
        names[topic] = name
    return names


def _info_topic(bag: Bag, topic: str) -> str | None:
    info = f"{_split(topic)[0]}/camera_info"
    return info if info in bag.topics and bag.topics[info].type == CAMERA_INFO else None
