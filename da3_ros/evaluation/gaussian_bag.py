"""Pictures of a recording for ``da3-ros gaussians``: some of its images at even distances, with their calibration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from da3_ros.datatypes import CameraCalibration, Frame
from da3_ros.errors import InputError
from da3_ros.evaluation.gaussian_scene import spread
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_cameras import BagCamera, find_cameras
from da3_ros.ingest.convert import rosbags_converter
from da3_ros.ingest.from_msg import calibration_from_info, frame_from_compressed, frame_from_image


def read_bag(
    paths: Sequence[Path], topics: Sequence[str], start_s: float, duration_s: float | None, most: int
) -> list[tuple[str, Frame]]:
    """At most ``most`` images of a recording, ``paths`` together, at even distances in order of time, each with a name
    made of topic and time.

    ``topics`` are Image and CompressedImage topics (none: all that hold pictures; raw where both are there).
    ``start_s`` and ``duration_s`` (None: to the end) are seconds from the start of the recording. A CameraInfo
    topic beside an image topic calibrates it. Raises InputError for a bag that cannot be read or has no such images,
    FrameError for a damaged image.
    """
    bag = Bag(paths)
    cameras = {camera.image_topic: camera for camera in find_cameras(bag, topics)}
    start_ns = bag.start_ns + int(start_s * 1e9)
    stop_ns = bag.end_ns if duration_s is None else start_ns + int(duration_s * 1e9)
    total = sum(1 for _ in bag.raw(cameras, start_ns, stop_ns))
    if not total:
        length_s = (bag.end_ns - bag.start_ns) / 1e9
        named = " with ".join(map(str, paths))
        raise InputError(f"{named} has no images from {start_s:g} s on: it is {length_s:.1f} s long")
    wanted = set(spread(total, min(most, total)))
    calibrations = {topic: _calibration(bag, camera) for topic, camera in cameras.items()}
    found = []
    for number, raw in enumerate(bag.raw(cameras, start_ns, stop_ns)):
        message = bag.deserialize(raw) if number in wanted else None
        if message is not None:
            topic, calibration = raw.topic, calibrations[raw.topic]
            if cameras[topic].compressed:
                frame = frame_from_compressed(message, topic, calibration=calibration)
            else:
                frame = frame_from_image(message, topic, calibration=calibration, converter=rosbags_converter)
            found.append((f"{topic} at {(raw.receive_ns - bag.start_ns) / 1e9:.3f} s", frame))
    return found


def _calibration(bag: Bag, camera: BagCamera) -> CameraCalibration | None:
    """From the first CameraInfo of the camera; None where there is none."""
    if camera.info_topic is None:
        return None
    first = next(bag.messages([camera.info_topic]), None)
    return None if first is None else calibration_from_info(first.message, camera.image_topic, camera.rectified)
