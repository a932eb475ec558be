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

from da3_ros.cli.demo_sequence import Sequence, SequenceCamera, SequenceImage
from da3_ros.egress.bag import BagWriter, new_recording
from da3_ros.egress.message_types import message_builder

BASE_FRAME = "base_link"
WORLD_FRAME = "world"
GROUND_TRUTH_ODOMETRY = "/ground_truth/odometry"


def image_topic(camera: str, transport: str) -> str:
    """Where the pictures of ``camera`` are; ``transport`` is raw or compressed."""
    return f"/{camera}/image_raw" + ("/compressed" if transport == "compressed" else "")


def camera_info_topic(camera: str) -> str:
    """Where the calibration of ``camera`` is."""
    return f"/{camera}/camera_info"


def ground_truth_topic(camera: str) -> str:
    """Where the true depth of ``camera`` is."""
    return f"/{camera}/ground_truth/depth"


def write_sequence(sequence: Sequence, path: Path, transport: str) -> int:
    """Write ``sequence`` to the new recording ``path``, a folder or a .mcap file; reads its steps one by one.

    How many there were: a video may have fewer than its header says.
    """
    build = message_builder()
    cameras = {camera.name: camera for camera in sequence.cameras}
    with new_recording(path) as bag:
        steps = 0
        for step in sequence.read():
            if not steps:
                transforms = _rig(sequence.cameras, step.stamp_ns)
                if transforms:
                    bag.write("/tf_static", step.stamp_ns, build.transforms(transforms))
            steps += 1
            for image in step.images:
                _write_image(bag, cameras[image.camera], image, step.stamp_ns, transport)
            if step.T_world_tracked is not None:
                _write_pose(bag, step.T_world_tracked, step.stamp_ns, sequence.tracked_frame)
    return steps


def _rig(cameras: Iterable[SequenceCamera], stamp_ns: int) -> list[Any]:
    """The extrinsics that are known."""
    return [
        message_builder().transform(camera.T_base_cam, stamp_ns, BASE_FRAME, camera.frame_id)
        for camera in cameras
        if camera.T_base_cam is not None
    ]


def _write_image(bag: BagWriter, camera: SequenceCamera, image: SequenceImage, stamp_ns: int, transport: str) -> None:
    """One picture with its calibration before it and its true depth after it; ``stamp_ns`` is that of the step."""
    build, frame = message_builder(), camera.frame_id
    if camera.calibration is not None:
        info = build.camera_info(camera.calibration, image.stamp_ns, frame)
        bag.write(camera_info_topic(camera.name), stamp_ns, info)
    if transport == "compressed":
        kind, data = _encoded(image)
        picture = build.compressed_image(data, kind, image.stamp_ns, frame)
    else:
        picture = build.image(image.rgb, image.stamp_ns, frame)
    bag.write(image_topic(camera.name, transport), stamp_ns, picture)
    if image.depth is not None:
        bag.write(ground_truth_topic(camera.name), stamp_ns, build.image(image.depth, image.stamp_ns, frame))


def _write_pose(bag: BagWriter, T_world_tracked: np.ndarray, stamp_ns: int, child: str) -> None:
    """The true pose as odometry and transform."""
    build = message_builder()
    odometry = build.odometry(T_world_tracked, stamp_ns, WORLD_FRAME, child, covariance=np.zeros((6, 6)))
    bag.write(GROUND_TRUTH_ODOMETRY, stamp_ns, odometry)
    transform = build.transform(T_world_tracked, stamp_ns, WORLD_FRAME, f"ground_truth/{child}")
    bag.write("/tf", stamp_ns, build.transforms([transform]))


def _encoded(image: SequenceImage) -> tuple[str, np.ndarray]:
    """Format and bytes of a compressed picture: those of its file as they are, else a new JPEG."""
    suffix = "" if image.file is None else image.file.suffix.lower()
    if image.file is not None and suffix in (".jpg", ".jpeg", ".png"):
        return "png" if suffix == ".png" else "jpeg", np.fromfile(image.file, np.uint8)
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.rgb).save(buffer, "JPEG", quality=92)
    return "jpeg", np.frombuffer(buffer.getvalue(), np.uint8)
