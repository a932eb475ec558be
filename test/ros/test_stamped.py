"""Stamps of serialized messages, and the camera and the meter that use them."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String

from da3_ros.msg import WindowEstimate
from da3_ros.ros.answer_meter import Answer, AnswerMeter
from da3_ros.ros.camera_source import run
from da3_ros.ros.rcl import Taken
from da3_ros.ros.stamped import get_stamp, has_header, set_stamp

STAMP = 1_700_000_000_123_456_789


@pytest.mark.parametrize("kind", [Image, CameraInfo, WindowEstimate])
def test_a_stamp_is_replaced_without_unpacking(kind):
    message = kind()
    message.header.frame_id = "camera_optical"
    data = bytearray(serialize_message(message))
    assert get_stamp(data) == 0
    set_stamp(data, STAMP)
    assert get_stamp(bytes(data)) == STAMP
    changed = deserialize_message(bytes(data), kind)
    assert (changed.header.stamp.sec, changed.header.stamp.nanosec) == divmod(STAMP, 10**9)
    assert changed.header.frame_id == "camera_optical", "and nothing else"


def test_big_endian_messages_have_their_stamp_too():
    data = bytearray(b"\x00\x00\x00\x00" + (7).to_bytes(4, "big") + (8).to_bytes(4, "big"))
    assert get_stamp(data) == 7 * 10**9 + 8


def test_messages_without_header_are_known():
    assert has_header(Image) and has_header(WindowEstimate) and not has_header(String)


class Source:
    """Sends nothing; ends after some images."""

    def __init__(self, count):
        self.ended, self.left = [], count

    def send(self, stamp_ns):
        self.left -= 1
        if not self.left:
            self.ended.append(True)


def test_cameras_agree_on_their_triggers():
    period_ns = 5_000_000
    source = Source(20)
    stamps, missed = run(source, period_ns, source.ended)
    assert len(stamps) == 20
    assert all(stamp % period_ns == 0 for stamp in stamps), "whatever the process"
    gaps = [(later - earlier) // period_ns for earlier, later in pairwise(stamps)]
    assert min(gaps) >= 1, "no stamp twice"
    assert sum(gap - 1 for gap in gaps) <= missed


def test_the_meter_counts_topics_and_keeps_the_last_times():
    meter = AnswerMeter.__new__(AnswerMeter)
    meter.topics, meter.complete, meter._newest_topic_s = {"/a", "/b"}, False, 0.0
    meter.answers = defaultdict(Answer)
    data = bytearray(serialize_message(Image()))
    set_stamp(data, STAMP)
    meter._note(Taken(np.frombuffer(data, np.uint8), published_ns=20, received_ns=31))
    assert not meter.complete
    meter._note(Taken(np.frombuffer(data, np.uint8), published_ns=10, received_ns=33))
    answer = meter.answers[STAMP]
    assert (answer.topics, answer.published_ns, answer.received_ns) == (2, 20, 33)
    assert meter.complete
