"""Images and point clouds to their serialized form: the middleware's own for everything but the pixels.

The pixels or points are copied once, from the array that they are in to the bytes that are sent, and without the
interpreter's lock.
"""

from __future__ import annotations

import struct
from array import array
from functools import cache
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message

from da3_ros.errors import UnavailableError

_MARK = b"\xa5\x5a" * 8


class PixelMessage:
    """A message with a field ``data`` of uint8[], which stays an array (n,) uint8. ``fields``: all the others."""

    def __init__(self, message_class: Any, data: np.ndarray, **fields: Any):
        self._class = message_class
        self._rest = message_class(**fields)
        self.data = data

    @property
    def size(self) -> int:
        """Bytes of ``data``."""
        return self.data.size

    def serialize(self, memory: Memory) -> np.ndarray:
        """The whole message, (n,) uint8 in ``memory``."""
        rest = serialize_message(self._rest)
        end = len(rest) - _tail(self._class)
        size = self.data.size
        length = struct.pack("<I" if rest[1] & 1 else ">I", size)
        whole = memory.of(len(rest) + size)
        # What follows is a single byte at most, so that nothing behind the data has to be aligned anew.
        whole[:end] = np.frombuffer(rest[: end - len(length)] + length, np.uint8)
        np.copyto(whole[end : end + size], self.data)
        whole[end + size :] = np.frombuffer(rest[end:], np.uint8)
        return whole


class Memory:
    """Memory that is used again for one message after the other; it grows to the largest."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def of(self, size: int) -> np.ndarray:
        """(size,) uint8; what was in it is lost."""
        if self._bytes.size < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size]


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
