"""Pictures that are decoded before their turn: in which order, how far ahead, and what damaged ones give."""

import threading

import cv2
import numpy as np
import pytest

from da3_ros.errors import FrameError
from da3_ros.ingest.bag_scan import RawMessage
from da3_ros.replay import ahead
from da3_ros.replay.ahead import PicturesAhead


class Compressed:
    format = "jpeg"

    def __init__(self, data: bytes):
        self.data = data


def jpeg(value: int) -> bytes:
    return cv2.imencode(".jpg", np.full((16, 16, 3), value, np.uint8))[1].tobytes()


def deserialize(raw: RawMessage) -> Compressed | None:
    return Compressed(raw.data) if raw.data else None


def messages(count: int) -> list[RawMessage]:
    """Of two topics with pictures and one without, in turn."""
    return [
        message
        for number in range(count)
        for message in (
            RawMessage("/tf", number, b"tf"),
            RawMessage("/left", number, jpeg(4 * number)),
            RawMessage("/right", number, jpeg(4 * number + 2)),
        )
    ]


def test_messages_come_in_their_order_with_the_pixels_of_each_picture():
    given = messages(12)
    with PicturesAhead({"/left": "left", "/right": "right"}, deserialize) as pictures:
        found = [(raw, None if begun is None else begun()) for raw, begun in pictures.read(given)]
    assert [raw for raw, _ in found] == given
    for raw, picture in found:
        if raw.topic == "/tf":
            assert picture is None
        else:
            pixels, encoding = picture.pixels()
            assert encoding == "bgr8" and picture.message.data == raw.data
            np.testing.assert_array_equal(pixels, cv2.imdecode(np.frombuffer(raw.data, np.uint8), cv2.IMREAD_COLOR))


def test_pictures_are_decoded_while_the_first_one_is_worked_on_and_no_further_than_a_few(monkeypatch):
    read, decoded, enough = [], [], threading.Event()
    real = ahead.decode_compressed

    def decode(data, kind, camera):
        decoded.append(camera)
        if len(decoded) == 4:
            enough.set()
        return real(data, kind, camera)

    def source():
        for raw in messages(50)[1::3]:
            read.append(raw)
            yield raw

    monkeypatch.setattr(ahead, "decode_compressed", decode)
    with PicturesAhead({"/left": "left"}, deserialize) as pictures:
        found = pictures.read(source())
        next(found)
        assert enough.wait(10.0)  # the first one and three more, though nobody has asked for any
        assert len(read) == 4


def test_large_messages_between_pictures_are_not_piled_up(monkeypatch):
    monkeypatch.setattr(ahead, "_MOST_BYTES", 1000)
    read = []

    def source():
        yield RawMessage("/left", 0, jpeg(0)[:300])
        for number in range(10):
            read.append(number)
            yield RawMessage("/cloud", number, bytes(400))

    with PicturesAhead({"/left": "left"}, deserialize) as pictures:
        next(pictures.read(source()))
        assert len(read) == 2


def test_what_is_damaged_is_found_when_it_is_its_turn():
    whole = jpeg(100)
    given = [RawMessage("/left", 0, whole[:-40]), RawMessage("/left", 1, b""), RawMessage("/left", 2, whole)]
    with PicturesAhead({"/left": "left"}, deserialize) as pictures:
        cut, nothing, fine = (begun() for _, begun in pictures.read(given))
    with pytest.raises(FrameError, match="cut off") as error:
        cut.pixels()
    assert (error.value.camera, error.value.reason) == ("left", "decode")
    assert nothing.message is None and nothing.pixels is None
    assert fine.pixels()[0].shape == (16, 16, 3)


def test_without_pictures_to_decode_nothing_is_read_ahead():
    read = []

    def source():
        for raw in messages(3):
            read.append(raw)
            yield raw

    with PicturesAhead({}, deserialize) as pictures:
        for number, (_, begun) in enumerate(pictures.read(source()), 1):
            assert begun is None and len(read) == number
