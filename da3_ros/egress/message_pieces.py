"""Messages to their serialized form, in pieces: pixels and points stay where they are."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np

from da3_ros.egress.message_types import message_types

# Types with a field ``data`` of uint8[], and the bytes behind it: one at most, so that nothing there has to be aligned
# anew.
_BEHIND = {
    "sensor_msgs/msg/CompressedImage": 0,
    "sensor_msgs/msg/Image": 0,
    "sensor_msgs/msg/PointCloud2": 1,
}
_COUNT = struct.Struct("=I")
_NO_DATA = np.empty(0, np.uint8)


def serialized(message: Any) -> list[memoryview]:
    """What ``message_types`` serializes a message of theirs to, one piece behind the other.

    The array ``data`` of an image or a cloud is a piece as it is, and is not copied.
    """
    types, kind = message_types(), message.__msgtype__
    if kind not in _BEHIND:
        return [types.serialize_cdr(message, kind)]
    rest = types.serialize_cdr(replace(message, data=_NO_DATA), kind)
    end = len(rest) - _BEHIND[kind]
    count = _COUNT.pack(message.data.size)
    return [rest[: end - len(count)], memoryview(count), memoryview(message.data), rest[end:]]
