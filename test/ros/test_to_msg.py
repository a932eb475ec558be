"""Messages made of arrays: layout, byte order, REP 118 encodings, and rotations as x, y, z, w."""

import time

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, Transform, Vector3

from da3_ros.datatypes import PointBuffer
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.ros import to_msg


@pytest.mark.parametrize(("dtype", "encoding"), [(np.float32, "32FC1"), (np.uint16, "16UC1")])
def test_depth_images(dtype, encoding):
    values = np.arange(12, dtype=dtype).reshape(3, 4)[:, ::-1]  # not contiguous
    message = to_msg.build.image(values, 1_700_000_000_123_456_789, "front")
    assert (message.height, message.width, message.step) == (3, 4, 4 * values.itemsize)
    assert (message.encoding, message.is_bigendian) == (encoding, 0)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    np.testing.assert_array_equal(np.frombuffer(message.data, dtype).reshape(3, 4), values)


def test_an_empty_cloud():
    message = to_msg.build.cloud(PointBuffer(np.zeros((1, 0, 16), np.uint8), "odom", True), 1)
    assert (message.height, message.width, message.row_step, len(message.data)) == (1, 0, 0, 0)


def test_large_images_are_not_copied_element_by_element():
    depth = np.ones((1080, 1920), np.float32)
    start = time.perf_counter()
    to_msg.build.image(depth, 1, "front")
    assert time.perf_counter() - start < 0.3  # element by element: seconds


def test_transforms_go_there_and_back():
    T = T_from(matrix_from_quat_xyzw(np.array([0.1, -0.2, 0.3, 0.9])), np.array([1.0, -2.0, 3.0]))
    message = to_msg.build.transform(T, 5, "odom", "base_link")
    assert (message.header.frame_id, message.child_frame_id) == ("odom", "base_link")
    np.testing.assert_allclose(to_msg.from_transform(message.transform), T, atol=1e-12)


def test_rotations_are_read_as_x_y_z_w():
    half = Transform(translation=Vector3(x=1.0), rotation=Quaternion(x=1.0, w=0.0))  # half a turn about x
    np.testing.assert_allclose(to_msg.from_transform(half)[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-12)
