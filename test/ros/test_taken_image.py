"""Serialized images read in place: the same attributes that rclpy's message has, and bytes that are no image."""

import struct
from array import array

import numpy as np
import pytest
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from da3_ros.ros.decode import cv_bridge_converter
from da3_ros.ros.taken_image import TakenImage

FIELDS = ("header", "height", "width", "encoding", "is_bigendian", "step")


def make(frame_id="camera_optical", encoding="rgb8", size=24):
    image = Image(height=2, width=4, encoding=encoding, is_bigendian=1, step=12, data=array("B", range(size)))
    image.header.frame_id = frame_id
    image.header.stamp.sec, image.header.stamp.nanosec = 1_700_000_000, 999_999_999
    return image


def taken(image):
    return TakenImage(np.frombuffer(serialize_message(image), np.uint8))


@pytest.mark.parametrize("frame_id", ["", "a", "ab", "abc", "Kamera_süd"])  # every alignment
@pytest.mark.parametrize("encoding", ["", "rgb8", "mono8", "8UC3", "bayer_rggb8"])
def test_attributes_are_those_of_the_message(frame_id, encoding):
    image = make(frame_id, encoding)
    message = taken(image)
    assert all(getattr(message, name) == getattr(image, name) for name in FIELDS)
    assert message.data.tobytes() == bytes(image.data)
    assert message.data.base is not None, "a view"


def test_an_image_without_data():
    assert taken(make(size=0)).data.size == 0


def test_big_endian_senders():
    text = struct.pack(">I", 3) + b"ab\0" + b"\0"
    body = struct.pack(">iI", 7, 8) + text + struct.pack(">II", 1, 2) + struct.pack(">I", 6) + b"mono8\0"
    body += b"\1" + b"\0" + struct.pack(">I", 2) + struct.pack(">I", 2) + b"xy"
    message = TakenImage(np.frombuffer(b"\0\0\0\0" + body, np.uint8))
    assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (7, 8, "ab")
    assert (message.height, message.width, message.encoding, message.step) == (1, 2, "mono8", 2)
    assert message.is_bigendian == 1 and message.data.tobytes() == b"xy"


def test_what_is_cut_off_anywhere_is_refused():
    whole = serialize_message(make())
    for size in range(len(whole)):
        with pytest.raises(ValueError, match="ends after|is empty"):
            TakenImage(np.frombuffer(whole[:size], np.uint8))


def test_another_encoding_is_refused():
    whole = bytearray(serialize_message(make()))
    whole[1] = 3  # a parameter list
    with pytest.raises(ValueError, match="0003 is not plain CDR"):
        TakenImage(np.frombuffer(whole, np.uint8))


def test_text_that_is_none_is_refused():
    damaged = bytearray(serialize_message(make()))
    damaged[damaged.index(b"camera")] = 0xFF
    with pytest.raises(ValueError, match="decode"):
        TakenImage(np.frombuffer(damaged, np.uint8))


def test_rare_encodings_are_converted():
    image = Image(height=2, width=4, encoding="bayer_rggb8", step=4, data=array("B", [9] * 8))
    np.testing.assert_array_equal(cv_bridge_converter(taken(image)), cv_bridge_converter(image))
