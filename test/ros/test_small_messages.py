"""Small messages as they are sent: those that ROS makes, without ROS's way of making them."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message

from da3_ros.datatypes import CameraCalibration, Estimate, ScaleEstimate, TrackingEstimate, ViewEstimate
from da3_ros.errors import UnavailableError
from da3_ros.geometry.se3 import T_from, matrix_from_quat_xyzw
from da3_ros.ros import small_messages, to_msg
from da3_ros.ros.small_messages import serialize

STAMP = 1_700_000_000_123_456_789
T = T_from(matrix_from_quat_xyzw(np.array([0.1, -0.2, 0.3, 0.9])), np.array([1.0, -2.0, 3.0]))
K = np.array([[50.0, 0, 31.5], [0, 51.0, 23.5], [0, 0, 1]])
TRACKING = TrackingEstimate(
    "scale_found", True, np.eye(6), scale_sources=("rig", "odometry"), scale_rejected=("range",),
    misfit_rad={"front": 0.125}, misfit_m={"front": 0.25},
)  # fmt: skip


def window(build, frame_id):
    views = [
        ViewEstimate("front", STAMP + index, frame_id, True, index == 1, T, (48, 64), K + index, K, 2.5)
        for index in range(3)
    ]
    scale = ScaleEstimate("rig", 1.5, 0.1)
    estimate = Estimate(STAMP, 7, tuple(views), (), T, scale, tracking=TRACKING)
    return build.window(estimate, frame_id, {"variant": "da3-small", "weights_trained": True})


MESSAGES = {
    "window": window,
    "odometry": lambda build, frame_id: build.odometry(T, STAMP, frame_id, "base_link", np.arange(36.0).reshape(6, 6)),
    "unsure odometry": lambda build, frame_id: build.odometry(T, STAMP, "odom", frame_id),
    "info": lambda build, frame_id: build.camera_info(CameraCalibration(64, 48, K), STAMP, frame_id),
    "distorted info": lambda build, frame_id: build.camera_info(
        CameraCalibration(64, 48, K, (0.1, -0.05, 0.0, 0.0, 0.01), "plumb_bob"), STAMP, frame_id
    ),
    "transforms": lambda build, frame_id: build.transforms([build.transform(T, STAMP, "odom", frame_id)] * 2),
    "no transforms": lambda build, frame_id: build.transforms([]),
}
FRAMES = ["", "a", "ab", "abc", "camera_optical"]  # every alignment


@pytest.fixture
def _fresh(monkeypatch):
    """What was found out about the ROS that is installed is found out anew."""
    caches = (small_messages.plain, small_messages.sending_class, to_msg._class_for_sending)
    for one in caches:
        one.cache_clear()
    yield
    monkeypatch.undo()
    for one in caches:
        one.cache_clear()


@pytest.fixture
def _another_ros(monkeypatch, _fresh):
    """One whose odometry has a field more."""

    def message_class(name):
        installed = small_messages_class(name)
        if name != "nav_msgs/msg/Odometry":
            return installed
        fields = {**installed.get_fields_and_field_types(), "later": "double"}
        return type(name, (installed,), {"get_fields_and_field_types": classmethod(lambda cls: fields)})

    small_messages_class = small_messages.message_class
    monkeypatch.setattr(small_messages, "message_class", message_class)


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize("frame_id", FRAMES)
def test_what_is_sent_is_the_typed_message(name, frame_id, monkeypatch):
    typed = MESSAGES[name](to_msg.build, frame_id)
    monkeypatch.setattr(small_messages, "serialize_message", lambda message: pytest.fail("made and sent by rclpy"))
    sent = serialize(MESSAGES[name](to_msg.build_for_sending, frame_id))
    assert deserialize_message(sent.tobytes(), type(typed)) == typed


def test_numbers_that_are_sent_may_lie_between_others():
    typed = MESSAGES["info"](to_msg.build, "camera")
    typed.d = [0.0, 2.0, 4.0, 6.0, 8.0]
    info = MESSAGES["info"](to_msg.build_for_sending, "camera")
    info.d = to_msg._data_for_sending(np.arange(10.0)[::2])
    assert deserialize_message(serialize(info).tobytes(), type(typed)) == typed


def test_the_first_message_waits_for_nothing(monkeypatch):
    """Once publishers are made: sets that come meanwhile would be lost."""
    small_messages.get_ready()
    types = small_messages.message_types()
    monkeypatch.setattr(types, "cache", Full(types.cache))
    monkeypatch.setattr(small_messages, "_as_installed", lambda kind: pytest.fail("compared only now"))
    for make in MESSAGES.values():
        assert serialize(make(to_msg.build_for_sending, "camera")).size


class Full(dict):
    """What was not in it is not put in."""

    def __setitem__(self, key, value):
        pytest.fail(f"{key} was made only now")


@pytest.mark.usefixtures("_another_ros")
@pytest.mark.parametrize("name", MESSAGES)
def test_where_ros_has_other_fields_its_own_messages_are_sent(name):
    assert not small_messages.plain()
    typed = MESSAGES[name](to_msg.build, "camera")
    sent = serialize(MESSAGES[name](to_msg.build_for_sending, "camera"))
    assert deserialize_message(sent.tobytes(), type(typed)) == typed


@pytest.mark.usefixtures("_fresh")
def test_where_messages_of_this_package_are_not_built_those_of_ros_are_sent(monkeypatch):
    def message_class(name):
        if name == "da3_ros/msg/WindowEstimate":
            raise UnavailableError(f"the message type {name} is not installed here")
        return small_messages_class(name)

    small_messages_class = small_messages.message_class
    monkeypatch.setattr(small_messages, "message_class", message_class)
    small_messages.get_ready()
    assert not small_messages.plain()
    sent = serialize(MESSAGES["odometry"](to_msg.build_for_sending, "camera"))
    typed = MESSAGES["odometry"](to_msg.build, "camera")
    assert deserialize_message(sent.tobytes(), type(typed)) == typed


def test_fields_are_compared_down_to_the_numbers(monkeypatch):
    """Of another ROS whose quaternions had less precision."""
    from geometry_msgs.msg import Quaternion

    fields = dict.fromkeys("xyzw", "float")
    monkeypatch.setattr(Quaternion, "get_fields_and_field_types", classmethod(lambda cls: fields))
    assert not small_messages._as_installed("tf2_msgs/msg/TFMessage")
    assert small_messages._as_installed("sensor_msgs/msg/CameraInfo")
