"""Whether damage of a recording's file would be noticed: which files have checksums, and whether that of the index
fits. (Those of the messages are checked when they are read.)"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

_MCAP_HEAD = struct.Struct("<BQ")  # opcode and length of a record (https://mcap.dev/spec)
_MESSAGE, _CHUNK, _DATA_END = 0x05, 0x06, 0x0F
_FOOTER = struct.Struct("<BQQQI8s")  # the last bytes: record head, starts of summary and offsets, checksum, magic
_CHUNK_CRC = 24  # where it is in a chunk
_ROS1_MAGIC, _ROS1_CHUNK = b"#ROSBAG V2.0\n", b"op=\x05"
_LZ4_CONTENT_CHECKSUM = 0x04
_LARGEST_HEADER, _LARGEST_RECORD = 1 << 20, 1 << 40
_U32 = struct.Struct("<I")


def check_index(file: Path) -> None:
    """Raise ValueError where the checksum of an mcap file's summary does not fit; one that has none is trusted."""
    if file.suffix != ".mcap":
        return
    with file.open("rb") as stream:
        start = stream.seek(0, 2) - _FOOTER.size
        if start < 0:
            return
        stream.seek(start)
        footer = stream.read()
        _, _, summary, _, crc, _ = _FOOTER.unpack(footer)
        if not crc or not 0 < summary <= start:
            return
        stream.seek(summary)
        found = zlib.crc32(stream.read(start - summary))
        # The footer's own fields before the checksum belong to it.
        if zlib.crc32(footer[:-12], found) != crc:
            raise ValueError("its checksum does not fit")


def has_checksums(file: Path) -> bool:
    """Whether bytes of messages in ``file`` that have changed make reading them fail.

    By its first chunk: writers give all of them checksums, or none. rosbag2's SQLite files have none.
    """
    with file.open("rb") as stream:
        if file.suffix == ".mcap":
            return _mcap(stream)
        return _ros1(stream) if stream.read(len(_ROS1_MAGIC)) == _ROS1_MAGIC else False


def _mcap(stream: BinaryIO) -> bool:
    stream.seek(8)
    while len(head := stream.read(_MCAP_HEAD.size)) == _MCAP_HEAD.size:
        opcode, length = _MCAP_HEAD.unpack(head)
        if opcode == _CHUNK:
            return any(stream.read(_CHUNK_CRC + 4)[_CHUNK_CRC:])
        if opcode in (_MESSAGE, _DATA_END):
            return opcode == _DATA_END
        if length > _LARGEST_RECORD:
            return False
        stream.seek(length, 1)
    return True  # there are no messages


def _ros1(stream: BinaryIO) -> bool:
    while len(size := stream.read(4)) == 4:
        header = stream.read(min(_U32.unpack(size)[0], _LARGEST_HEADER))
        (length,) = _U32.unpack(stream.read(4).ljust(4, b"\0"))
        if _ROS1_CHUNK in header:
            # bzip2 always has them; LZ4 where the flags, behind its four bytes of magic, say so.
            flags = stream.read(5)[4:] if b"compression=lz4" in header else b"\0"
            return b"compression=bz2" in header or any(flag & _LZ4_CONTENT_CHECKSUM for flag in flags)
        stream.seek(length, 1)
    return True
