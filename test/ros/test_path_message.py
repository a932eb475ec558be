"""A path as it is sent: the same message that the typed way gives, whatever its length and its frame."""

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message

from da3_ros.ros import path_message, to_msg
from da3_ros.ros.pixel_messages import Memory
from da3_ros.ros.small_messages import serialize

STAMP = 1_700_000_000_123_456_789


def poses(build, count, frame_id):
    found = []
    for index in range(count):
        T = np.eye(4)
        T[:3, 3] = index, -index / 3, 1e-9 * index
        found.append(build.pose_stamped(T, STAMP + index * 33_333_333, frame_id))
    return found


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "abcd", "odom_of_robot"])  # every alignment
def test_what_is_sent_is_the_typed_message(count, frame_id):
    typed = to_msg.build.path(poses(to_msg.build, count, frame_id), STAMP, frame_id)
    ours = poses(to_msg.build_for_sending, count, frame_id)
    sent = to_msg.build_for_sending.path(ours, STAMP, frame_id).serialize(Memory()).tobytes()
    assert deserialize_message(sent, type(typed)) == typed
    assert len(sent) == len(serialize_message(typed))


def test_poses_of_other_frames_may_be_in_one_path():
    parts = [(1, "odom"), (2, "a"), (1, "longer_frame")]
    typed, ours = ([pose for part in parts for pose in poses(build, *part)]
                   for build in (to_msg.build, to_msg.build_for_sending))  # fmt: skip
    sent = to_msg.build_for_sending.path(ours, STAMP, "map").serialize(Memory()).tobytes()
    expected = to_msg.build.path(typed, STAMP, "map")
    assert deserialize_message(sent, type(expected)) == expected


def test_a_pose_is_serialized_once(monkeypatch):
    """What a path costs does not grow with its length."""
    ours = poses(to_msg.build_for_sending, 100, "odom")
    seen = []

    def counted(message):
        seen.append(len(message.poses))
        return serialize(message)

    monkeypatch.setattr(path_message, "serialize", counted)
    to_msg.build_for_sending.path(ours, STAMP, "odom").serialize(Memory())
    assert max(seen) <= 1
