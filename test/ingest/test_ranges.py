"""Measured distances as points on the robot."""

from types import SimpleNamespace as Message

import numpy as np
import pytest

from da3_ros.datatypes import Frame, FrameSet
from da3_ros.errors import InputError
from da3_ros.geometry.se3 import T_from
from da3_ros.ingest.ranges import RangeReadings, reading_from_depth, reading_from_range


def header(stamp_ns, frame="sensor"):
    return Message(stamp=Message(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9), frame_id=frame)


def range_message(value, stamp_ns=10**9):
    return Message(header=header(stamp_ns), range=value, min_range=0.1, max_range=10.0)


def depth_message(values, encoding, stamp_ns=10**9):
    return Message(
        header=header(stamp_ns), height=values.shape[0], width=values.shape[1], encoding=encoding,
        is_bigendian=0, step=values.strides[0], data=values.tobytes(),
    )  # fmt: skip


INFO = Message(height=16, width=24, p=[20.0, 0, 11.5, 0, 0, 20.0, 7.5, 0, 0, 0, 1, 0])


@pytest.mark.parametrize("value", [np.inf, np.nan, 0.05, 11.0, -1.0])
def test_a_range_that_measured_nothing_is_no_reading(value):
    assert reading_from_range(range_message(value)) is None


def test_the_reading_nearest_in_time_is_a_point_on_the_robot():
    readings = RangeReadings()
    for stamp_ns, value in ((10**9, 2.0), (10**9 + 40_000_000, 3.0)):
        readings.add(reading_from_range(range_message(value, stamp_ns)))
    T = T_from(np.eye(3), np.array([0.1, 0.0, 0.3]))
    found = readings.attach(FrameSet(10**9 + 50_000_000, ()), lambda frame: T if frame == "sensor" else None)
    np.testing.assert_allclose(found.ranges, [[3.1, 0.0, 0.3]])
    assert readings.attach(FrameSet(2 * 10**9, ()), lambda frame: T).ranges is None  # too long ago
    assert readings.attach(FrameSet(10**9, ()), lambda frame: None).ranges is None  # no transform


@pytest.mark.parametrize(("encoding", "dtype", "unit"), [("32FC1", np.float32, 1.0), ("16UC1", np.uint16, 1e-3)])
def test_a_depth_image_gives_points_on_its_rays(encoding, dtype, unit):
    values = np.full((16, 24), 2.0 / unit, dtype)
    values[:8] = 0
    points = reading_from_depth(depth_message(values, encoding), INFO).points
    assert len(points) == 32  # half of the 8 x 8 pixels
    np.testing.assert_allclose(points[:, 2], 2.0, rtol=1e-6)
    assert points[:, 1].min() > 0 and np.abs(points[:, 0]).max() < 2.0 * 12 / 20


def test_a_depth_image_that_cannot_be_used_says_why():
    values = np.zeros((16, 24), np.uint8)
    with pytest.raises(InputError, match="publish 32FC1 or 16UC1"):
        reading_from_depth(depth_message(values, "mono8"), INFO)
    with pytest.raises(InputError, match="24x8 pixels, its CameraInfo 24x16"):
        reading_from_depth(depth_message(np.zeros((8, 24), np.float32), "32FC1"), INFO)


def test_depth_that_is_registered_to_a_camera_needs_no_transform():
    readings = RangeReadings()
    readings.add(reading_from_depth(depth_message(np.full((16, 24), 2.0, np.float32), "32FC1"), INFO))
    frame = Frame("front", 10**9, np.empty((0, 0, 3), np.uint8), frame_id="sensor")
    found = readings.attach(FrameSet(10**9, (frame,)), lambda frame_id: None)
    assert found.ranges_frame == "sensor" and len(found.ranges) == 64
