"""Images and point clouds to their serialized form: the middleware's own for everything but the pixels.

Pixels and points that came from a GPU are sent from where they are, with the rest written about them. Others are copied
once, without the interpreter's lock.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from da3_ros.errors import UnavailableError
from da3_ros.ros.stamped import set_stamp
from da3_ros.streaming.transfer import surroundings

_MARK = b"\xa5\x5a" * 8


class PixelMessage:
    """A message with a field ``data`` of uint8[], which stays an array (n,) uint8. ``fields``: all the others."""

    def __init__(self, message_class: Any, data: np.ndarray, header: Any = None, **fields: Any):
        self._class = message_class
        self._header = Header() if header is None else header
        self._fields = fields
        self.data = data

    def serialize(self, memory: Memory) -> np.ndarray:
        """The whole message, (n,) uint8: about the data where there is room (``transfer.surroundings``), else in
        ``memory``."""
        size, stamp = self.data.size, self._header.stamp
        # Of a topic, one message after the other is the same but for its stamp and its data.
        start, end = memory.around((self._class, self._header.frame_id, size, *self._fields.values()), self._around)
        set_stamp(start, stamp.sec * 1_000_000_000 + stamp.nanosec)
        whole = surroundings(self.data, len(start), len(end))
        if whole is None:
            whole = memory.of(len(start) + size + len(end))
            np.copyto(whole[len(start) : len(start) + size], self.data)
        whole[: len(start)] = np.frombuffer(start, np.uint8)
        whole[len(start) + size :] = np.frombuffer(end, np.uint8)
        return whole

    def _around(self) -> tuple[bytearray, bytes]:
        """What comes before and behind the data, as serialized."""
        rest = serialize_message(self._class(header=Header(frame_id=self._header.frame_id), **self._fields))
        end = len(rest) - _tail(self._class)
        length = struct.pack("<I" if rest[1] & 1 else ">I", self.data.size)
        # What follows is a single byte at most, so that nothing behind the data has to be aligned anew.
        return bytearray(rest[: end - len(length)] + length), rest[end:]


class Memory:
    """Of one topic: memory that is used again for one message after the other, and what surrounds their data."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)
        self._key: tuple[Any, ...] | None = None
        self._around: tuple[bytearray, bytes] = bytearray(), b""

    def of(self, size: int) -> np.ndarray:
        """(size,) uint8, which grows to the largest asked for; what was in it is lost."""
        if self._bytes.size < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size]

    def around(
        self, key: tuple[Any, ...], make: Callable[[], tuple[bytearray, bytes]]
    ) -> tuple[bytearray, bytes]:
        """What ``make`` gave for ``key``, made anew where the last one was another."""
        if key != self._key:
            self._around = make()
            self._key = key
        return self._around


@cache
def _tail(message_class: Any) -> int:
    """Serialized bytes behind ``data``. Raises UnavailableError for a middleware that does not write plain CDR."""
    without = serialize_message(message_class())
    marked = serialize_message(message_class(data=array("B", _MARK)))
    tail = len(marked) - marked.find(_MARK) - len(_MARK)
    if len(marked) != len(without) + len(_MARK) or tail not in (0, 1):
        raise UnavailableError(
            f"this middleware serializes {message_class.__name__} in a way that is not known here: choose "
            "rmw_fastrtps_cpp (RMW_IMPLEMENTATION)"
        )
    return tail
