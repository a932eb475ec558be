"""Images and clouds as they are sent: the same message that the typed way gives, whatever size and encoding."""

from array import array

import numpy as np
import pytest
import torch
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, PointCloud2

from da3_ros.datatypes import PointBuffer
from da3_ros.errors import UnavailableError
from da3_ros.ros import pixel_messages, to_msg
from da3_ros.ros.pixel_messages import Memory, PixelMessage
from da3_ros.streaming.transfer import pack, unpack

STAMP = 1_700_000_000_123_456_789
RANDOM = np.random.default_rng(1)


def images():
    for dtype, shape in ((np.float32, (3, 5)), (np.uint16, (3, 5)), (np.uint8, (7, 3)), (np.uint8, (2, 3, 3))):
        yield "image", RANDOM.integers(0, 200, shape).astype(dtype)
    yield "image", np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::-1]  # not contiguous


def clouds():
    for shape, dense in (((3, 5, 16), False), ((1, 7, 16), True), ((1, 0, 16), True)):
        yield "cloud", PointBuffer(RANDOM.integers(0, 255, shape, dtype=np.uint8), "odom", dense)


@pytest.mark.parametrize(("kind", "value"), [*images(), *clouds()])
@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "camera_optical"])  # every alignment
def test_what_is_sent_is_the_typed_message(kind, value, frame_id):
    if kind == "cloud":
        value = PointBuffer(value.data, frame_id, value.dense)
    arguments = (value, STAMP, frame_id) if kind == "image" else (value, STAMP)
    typed = getattr(to_msg.build, kind)(*arguments)
    message = getattr(to_msg.build_for_sending, kind)(*arguments)
    assert isinstance(message, PixelMessage)
    sent = message.serialize(Memory()).tobytes()
    assert deserialize_message(sent, type(typed)) == typed
    # Byte for byte they differ: the middleware leaves what lies between fields as it was.
    assert len(sent) == len(serialize_message(typed))


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "camera_optical", "long" * 200])
def test_what_came_from_a_gpu_is_sent_from_where_it_is(frame_id):
    """But where a frame's name is longer than the room before it."""
    depth, points = torch.rand(30, 50), torch.randint(0, 256, (1, 999, 16), dtype=torch.uint8)
    packed, places = pack({"depth": depth, "K": torch.eye(3), "points": points})
    arrays = unpack(packed.numpy(), places)
    cloud = PointBuffer(arrays["points"][:, :800], frame_id, True)
    typed = to_msg.build.image(arrays["depth"], STAMP, frame_id), to_msg.build.cloud(cloud, STAMP)
    ours = (
        to_msg.build_for_sending.image(arrays["depth"], STAMP, frame_id),
        to_msg.build_for_sending.cloud(cloud, STAMP),
    )
    for expected, message in zip(typed, ours, strict=True):
        sent = message.serialize(Memory())
        assert deserialize_message(sent.tobytes(), type(expected)) == expected
        assert np.shares_memory(sent, packed.numpy()) == (len(frame_id) < 200)
    np.testing.assert_array_equal(arrays["depth"], depth.numpy())
    np.testing.assert_array_equal(arrays["K"], np.eye(3))
    np.testing.assert_array_equal(arrays["points"][:, :800], points[:, :800].numpy())


def test_memory_is_used_again_and_grows():
    memory = Memory()
    for size in (10, 4, 30):
        data = np.arange(size, dtype=np.uint8)
        sent = PixelMessage(Image, data, height=1, width=size, encoding="mono8", step=size).serialize(memory)
        assert deserialize_message(sent.tobytes(), Image).data == array("B", range(size))
    assert sent.base is memory.of(1).base


def test_of_a_topic_only_what_has_changed_is_serialized_anew(monkeypatch):
    """And nothing of one message is found in the next one."""
    serialized = []

    def serialize(message):
        serialized.append(message)
        return serialize_message(message)

    monkeypatch.setattr(pixel_messages, "serialize_message", serialize)
    memory = Memory()
    changes = [(2, 3, "a", 5), (2, 3, "a", STAMP + 3_000_000_001), (2, 3, "b", 7), (3, 2, "b", 8), (3, 2, "b", 9)]
    for height, width, frame_id, stamp_ns in changes:
        value = RANDOM.integers(0, 200, (height, width)).astype(np.float32)
        sent = to_msg.build_for_sending.image(value, stamp_ns, frame_id).serialize(memory).tobytes()
        assert deserialize_message(sent, Image) == to_msg.build.image(value, stamp_ns, frame_id)
    assert len(serialized) == 3


def test_the_byte_order_of_the_middleware_is_kept(monkeypatch):
    """One that writes big endian says so in its second byte, and stamp and length of the data must follow it."""

    def big_endian(message):
        return b"\0\0\0\0" + bytes(8) + len(message.data).to_bytes(4, "big") + bytes(message.data)

    monkeypatch.setattr(pixel_messages, "serialize_message", big_endian)
    pixel_messages._tail.cache_clear()
    try:
        header = to_msg.build.header(STAMP, "camera")
        sent = PixelMessage(Image, np.arange(3, dtype=np.uint8), header).serialize(Memory())
    finally:
        pixel_messages._tail.cache_clear()
    stamp = (1_700_000_000).to_bytes(4, "big") + (123_456_789).to_bytes(4, "big")
    assert sent.tobytes() == b"\0\0\0\0" + stamp + b"\0\0\0\3" + b"\0\1\2"


@pytest.mark.parametrize("kind", [Image, PointCloud2])
def test_a_middleware_that_writes_something_else_is_refused(monkeypatch, kind):
    monkeypatch.setattr(pixel_messages, "serialize_message", lambda message: b"json" + bytes(len(message.data) * 2))
    pixel_messages._tail.cache_clear()
    try:
        with pytest.raises(UnavailableError, match="RMW_IMPLEMENTATION"):
            PixelMessage(kind, np.zeros(3, np.uint8)).serialize(Memory())
    finally:
        pixel_messages._tail.cache_clear()
