"""A path in a recording: the bytes that the library makes, whatever its frame, its length and what it was before."""

import numpy as np
import pytest

from da3_ros.egress import path_bytes
from da3_ros.egress.message_types import message_builder, message_types
from da3_ros.egress.path_bytes import PathBytes

PATH = "nav_msgs/msg/Path"


def poses(count: int, frame: str) -> list:
    return [message_builder().pose_stamped(np.eye(4) * (1 + i), 10**9 + i, frame) for i in range(count)]


def plain(path) -> bytes:
    return bytes(message_types().serialize_cdr(path, PATH))


@pytest.mark.parametrize("frame", ["m", "ab", "odom", "robot", "robot1/odom"])
def test_a_path_that_grows_slides_and_starts_anew(frame):
    way, ours = poses(8, frame), PathBytes()
    parts = [way[:0], way[:1], way[:2], way[:4], way[1:5], way[3:8], way[5:6], [*poses(2, frame), *way[:3]]]
    # The same first pose with others behind it, and fewer.
    for part in (*parts, way[:2], [way[0], *way[2:5]], [way[0], way[4]]):
        for of_path in (frame, "x"):
            path = message_builder().path(part, 5 * 10**9, of_path)
            assert ours.serialize(path) == plain(path)


def test_a_pose_is_serialized_once(monkeypatch):
    way, ours, made = poses(50, "odom"), PathBytes(), []
    real = path_bytes.pose_behind
    monkeypatch.setattr(path_bytes, "pose_behind", lambda *given: made.append(1) or real(*given))
    for count in (48, 49, 50):
        ours.serialize(message_builder().path(way[:count], 0, "odom"))
    assert len(made) == 50
