"""Images as they come from the middleware: their pixels stay where it put them, and nothing is unpacked in Python."""

from __future__ import annotations

import struct

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

# The first two bytes of plain CDR and of plain CDR2, big and little endian, which are the same for an Image.
_PLAIN = (b"\0\0", b"\0\1", b"\0\6", b"\0\7")
_ENCAPSULATION = 4  # bytes before the message; alignment counts from behind them


class TakenImage:
    """A serialized sensor_msgs/Image with that message's attributes; ``data`` is a view of ``serialized`` (n,) uint8.

    Raises ValueError for bytes that are no Image.
    """

    def __init__(self, serialized: np.ndarray):
        self.serialized = serialized
        read = _Reader(serialized)
        sec, nanosec = read.number("i"), read.number("I")
        self.header = Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=read.text())
        self.height, self.width = read.number("I"), read.number("I")
        self.encoding = read.text()
        self.is_bigendian = read.number("B")
        self.step = read.number("I")
        self.data = read.bytes(read.number("I"))


class _Reader:
    """Reads plain CDR, of either byte order, from its start on."""

    def __init__(self, serialized: np.ndarray):
        if serialized.size < _ENCAPSULATION:
            raise ValueError("the message is empty")
        if bytes(serialized[:2]) not in _PLAIN:
            raise ValueError(f"its encoding {bytes(serialized[:2]).hex()} is not plain CDR")
        self._order = "<" if serialized[1] & 1 else ">"
        self._body = serialized[_ENCAPSULATION:]
        self._at = 0

    def number(self, kind: str) -> int:
        layout = struct.Struct(self._order + kind)
        self._at += -self._at % layout.size
        return layout.unpack(self.bytes(layout.size).data)[0]

    def text(self) -> str:
        return self.bytes(self.number("I")).tobytes().rstrip(b"\0").decode()  # UnicodeDecodeError is a ValueError

    def bytes(self, size: int) -> np.ndarray:
        part = self._body[self._at : self._at + size]
        if part.size != size:
            raise ValueError(f"it ends after {self._body.size} bytes, where {self._at + size} are needed")
        self._at += size
        return part
