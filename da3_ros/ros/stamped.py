"""Stamps of serialized messages that begin with a std_msgs/Header, read and written without unpacking them.

Such a message starts with four bytes that name the encoding (CDR; the second one's lowest bit: little endian), then
header.stamp as int32 seconds and uint32 nanoseconds.
"""

from __future__ import annotations

import struct

_NS = 1_000_000_000
_STAMP, STAMP_END = 4, 12  # where it begins, and what follows it


def has_header(message_type: type) -> bool:
    """Whether messages of this generated class begin with a std_msgs/Header."""
    return next(iter(message_type.get_fields_and_field_types().values()), "") == "std_msgs/Header"  # type: ignore[attr-defined]


def get_stamp(data: bytes | bytearray | memoryview) -> int:
    """Stamp of a serialized message, in nanoseconds."""
    seconds, nanoseconds = struct.unpack_from(_layout(data), data, _STAMP)
    return seconds * _NS + nanoseconds


def set_stamp(data: bytearray, stamp_ns: int) -> None:
    """Replace the stamp of a serialized message."""
    struct.pack_into(_layout(data), data, _STAMP, *divmod(stamp_ns, _NS))


def _layout(data: bytes | bytearray | memoryview) -> str:
    return "<iI" if data[1] & 1 else ">iI"
