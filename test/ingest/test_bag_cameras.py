"""Cameras of a recording that nobody named."""

import numpy as np
import pytest
from bag_helpers import ROS2, START_NS, Messages, write_ros2

from da3_ros.errors import InputError
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_cameras import BagCamera, find_cameras

M = Messages(ROS2)
COLOUR = M.image(START_NS, np.zeros((4, 4, 3), np.uint8))
DEPTH = M.image(START_NS, np.zeros((4, 4), np.float32), "32FC1")
MASK = M.image(START_NS, np.zeros((4, 4), np.uint8), "mono8")
JPEG = M.compressed(START_NS, b"\xff\xd8\xff")


def bag(tmp_path, **topics) -> Bag:
    recorded = [(name.replace("__", "/"), START_NS, message) for name, message in topics.items()]
    return Bag([write_ros2(tmp_path / "bag", recorded)])


def test_pictures_are_found_by_type_and_calibration_by_namespace(tmp_path):
    found = find_cameras(
        bag(
            tmp_path,
            __robot__front__image_raw=COLOUR,
            __robot__front__camera_info=M.info(START_NS, 4, 4),
            __robot__depth__image_rect=DEPTH,
            __rear__image_rect_color__compressed=JPEG,
            __left__image_raw=M.image(START_NS, np.zeros((4, 4), np.uint16), "16UC1"),
            __right__depth__compressedDepth=M.compressed(START_NS, b"x", "32FC1; compressedDepth"),
            __chatter=M.text("no picture"),
        )
    )
    assert found == [
        BagCamera("rear", "/rear/image_rect_color/compressed", None, compressed=True, rectified=True),
        BagCamera(
            "robot_front", "/robot/front/image_raw", "/robot/front/camera_info", compressed=False, rectified=False
        ),
    ]


def test_one_topic_for_each_camera(tmp_path):
    found = find_cameras(
        bag(
            tmp_path,
            __front__image_mono=COLOUR,
            __front__image_raw=COLOUR,
            __front__image_raw__compressed=JPEG,
            __front__image_rect=COLOUR,
            __front__dynamic=MASK,
            __image_raw__compressed=JPEG,
            __left__dynamic=MASK,  # of a recording of the node alone
            __left__sky=MASK,
        )
    )
    assert [(camera.name, camera.image_topic) for camera in found] == [
        ("front", "/front/image_raw"),
        ("camera", "/image_raw/compressed"),
    ]


def test_named_topics_are_taken_as_they_are_named(tmp_path):
    recording = bag(tmp_path, __a__1__image_rect=COLOUR, __a__1__image_raw=COLOUR)
    found = find_cameras(recording, ["/a/1/image_rect", "/a/1/image_raw"])
    assert [(camera.name, camera.rectified) for camera in found] == [("a_1", True), ("a_1_2", False)]
    with pytest.raises(InputError, match="no image topic /b; there are: /a/1/image_raw, /a/1/image_rect"):
        find_cameras(recording, ["/b"])


def test_a_recording_without_pictures_is_said(tmp_path):
    with pytest.raises(InputError, match=r"no topic with pictures \(image topics: /depth with 1 messages\)$"):
        find_cameras(bag(tmp_path, __depth=DEPTH))
