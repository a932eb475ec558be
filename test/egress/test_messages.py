"""The same numbers as messages of two libraries: equal to the byte once serialized."""

import numpy as np
import pytest

from da3_ros.datatypes import CameraCalibration, Estimate, PointBuffer, ScaleEstimate, ViewEstimate
from da3_ros.egress.message_pieces import serialized
from da3_ros.egress.message_types import message_builder, message_types
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw

STAMP_NS = 1_700_000_000_123_456_789
T = T_from(matrix_from_quat_xyzw(np.array([0.1, -0.2, 0.3, 0.9])), np.array([1.0, -2.0, 3.0]))
K = np.array([[50.0, 0, 31.5], [0, 51.0, 23.5], [0, 0, 1]])
VIEW = ViewEstimate("front", STAMP_NS, "front_optical", True, False, T, (48, 64), K, K + 1, 2.5)
ESTIMATE = Estimate(STAMP_NS, 7, (VIEW, VIEW), (), T, ScaleEstimate("rig", 1.5, 0.1))
DESCRIPTION = {"variant": "da3-small", "weights_trained": True}
MESSAGES = {
    "depth": lambda build: build.image(np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::-1], STAMP_NS, "front"),
    "millimetres": lambda build: build.image(np.arange(12, dtype=np.uint16).reshape(3, 4), STAMP_NS, "front"),
    "colours": lambda build: build.image(np.arange(36, dtype=np.uint8).reshape(3, 4, 3), STAMP_NS, "front"),
    "compressed": lambda build: build.compressed_image(np.arange(7, dtype=np.uint8), "png", STAMP_NS, "front"),
    "info": lambda build: build.camera_info(
        CameraCalibration(64, 48, K, (0.1, -0.05, 0.0, 0.0, 0.01), "plumb_bob"), STAMP_NS, "front"
    ),
    "undistorted": lambda build: build.camera_info(CameraCalibration(64, 48, K), STAMP_NS, "front"),
    "cloud": lambda build: build.cloud(
        PointBuffer(np.arange(96, dtype=np.uint8).reshape(2, 3, 16), "odom", False), STAMP_NS
    ),
    "empty cloud": lambda build: build.cloud(PointBuffer(np.zeros((1, 0, 16), np.uint8), "odom", True), STAMP_NS),
    "transforms": lambda build: build.transforms([build.transform(T, STAMP_NS, "odom", "base_link")]),
    "odometry": lambda build: build.odometry(T, STAMP_NS, "odom", "base_link"),
    "path": lambda build: build.path([build.pose_stamped(T, STAMP_NS, "odom")] * 2, STAMP_NS, "odom"),
    "window": lambda build: build.window(ESTIMATE, "odom", DESCRIPTION),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_rosbags_and_ros_write_the_same_bytes(name):
    pytest.importorskip("rclpy")
    from rclpy.serialization import serialize_message

    from da3_ros.ros import to_msg

    ours = MESSAGES[name](message_builder())
    theirs = serialize_message(MESSAGES[name](to_msg.build))
    kind = ours.__msgtype__
    # A float64 after a smaller field is aligned with whatever bytes lie there: compared as read, and written again.
    assert message_types().serialize_cdr(ours, kind) == message_types().serialize_cdr(
        message_types().deserialize_cdr(theirs, kind), kind
    )


@pytest.mark.parametrize("name", MESSAGES)
def test_in_pieces_they_are_the_same_bytes(name):
    message = MESSAGES[name](message_builder())
    assert b"".join(serialized(message)) == message_types().serialize_cdr(message, message.__msgtype__)


def test_the_window_says_what_the_estimate_says():
    message = MESSAGES["window"](message_builder())
    assert (message.step, message.scale_source, message.scale, message.weights_trained) == (7, "rig", 1.5, True)
    assert len(message.views) == 2 and message.views[0].pose.position.z == 3.0
    assert (message.views[0].width, message.views[0].height) == (64, 48)
    np.testing.assert_array_equal(message.views[0].k_predicted.reshape(3, 3), K + 1)
