"""ROS 1 bags (format 2.0) without their index: connections and messages in the order of the file."""

from __future__ import annotations

import bz2
import struct
from collections.abc import Iterator
from pathlib import Path

import lz4.frame
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from da3_ros.errors import InputError
from da3_ros.ingest.bag_scan import Lost, RawMessage, StoredTopic

_MAGIC = b"#ROSBAG V2.0\n"
_MESSAGE, _CHUNK, _CONNECTION = 0x02, 0x05, 0x07
_LARGEST_HEADER = 1 << 20


def scan_ros1(file: Path, lost: Lost) -> Iterator[StoredTopic | RawMessage]:
    """What is readable of ``file``; within a chunk by time. Holds one chunk in memory.

    Raises InputError for a file that is no ROS 1 bag.
    """
    size = file.stat().st_size
    topics: dict[int, str] = {}
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise InputError(f"{file} is no ROS 1 bag of format 2.0: its first bytes are not '#ROSBAG V2.0'")
        while (start := stream.tell()) < size:
            try:
                header = _header(stream.read(_length(stream.read(4), _LARGEST_HEADER)))
                length = _length(stream.read(4), 1 << 40)
            except ValueError as error:
                lost(f"the {size - start} bytes from byte {start} on ({error})")
                return
            if stream.tell() + length > size:
                lost(f"the file ends within the record at byte {start}, which has {length} bytes")
                return
            if header.get("op") == bytes([_CHUNK]):
                yield from _chunk(header, stream.read(length), topics, lost, start)
            elif header.get("op") == bytes([_CONNECTION]):
                yield from _record(header, stream.read(length), topics)
            else:
                stream.seek(length, 1)


def _chunk(
    header: dict[str, bytes], data: bytes, topics: dict[int, str], lost: Lost, start: int
) -> Iterator[StoredTopic | RawMessage]:
    compression = header.get("compression", b"none").decode()
    messages = []
    try:
        if compression == "bz2":
            data = bz2.decompress(data)
        elif compression == "lz4":
            data = lz4.frame.decompress(data)
        at = 0
        while at < len(data):
            length = _length(data[at : at + 4], _LARGEST_HEADER)
            inner = _header(data[at + 4 : at + 4 + length])
            at += 4 + length
            length = _length(data[at : at + 4], len(data))
            for item in _record(inner, data[at + 4 : at + 4 + length], topics):
                if isinstance(item, StoredTopic):
                    yield item
                else:
                    messages.append(item)
            at += 4 + length
    except (ValueError, OSError, RuntimeError, EOFError, KeyError, struct.error) as error:
        lost(f"a chunk at byte {start} ({error})")
    yield from sorted(messages, key=lambda message: message.receive_ns)


def _record(header: dict[str, bytes], data: bytes, topics: dict[int, str]) -> Iterator[StoredTopic | RawMessage]:
    operation = header["op"][0]
    if operation not in (_MESSAGE, _CONNECTION):
        return
    (number,) = struct.unpack("<I", header["conn"])
    if operation == _MESSAGE:
        seconds, nanoseconds = struct.unpack("<II", header["time"])
        if number in topics:
            yield RawMessage(topics[number], seconds * 1_000_000_000 + nanoseconds, data)
    elif number not in topics:
        inner = _header(data)
        package, _, name = inner["type"].decode().partition("/")
        topics[number] = header["topic"].decode()
        text = MessageDefinition(MessageDefinitionFormat.MSG, inner["message_definition"].decode(errors="replace"))
        yield StoredTopic(topics[number], f"{package}/msg/{name}", text, ros1=True)


def _header(data: bytes) -> dict[str, bytes]:
    """Fields of a header: each with its length before it, as name=value. Raises ValueError for other bytes."""
    fields, at = {}, 0
    while at < len(data):
        length = _length(data[at : at + 4], len(data))
        name, equals, value = data[at + 4 : at + 4 + length].partition(b"=")
        if not equals:
            raise ValueError("there is no header")
        fields[name.decode()] = value
        at += 4 + length
    return fields


def _length(data: bytes, most: int) -> int:
    if len(data) < 4:
        raise ValueError("the file ends there")
    (length,) = struct.unpack("<I", data)
    if length > most:
        raise ValueError("there is no record")
    return int(length)
