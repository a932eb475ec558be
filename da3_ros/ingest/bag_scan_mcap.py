"""MCAP files without their summary (https://mcap.dev/spec): schemas, channels and messages in the order of the file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import lz4.frame

from da3_ros.errors import InputError
from da3_ros.ingest.bag_scan import NO_DEFINITION, Lost, RawMessage, StoredTopic, definition
from da3_ros.ingest.decompress import zstd

_MAGIC = b"\x89MCAP0\r\n"
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END, _LAST_OPCODE = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F, 0x0F
_HEAD = struct.Struct("<BQ")  # of every record: opcode and length


def scan_mcap(file: Path, lost: Lost) -> Iterator[StoredTopic | RawMessage]:
    """What is readable of ``file``; within a chunk by time. Holds one chunk in memory.

    Raises InputError for a file that is no MCAP at all.
    """
    size = file.stat().st_size
    reader = _Records(lost)
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise InputError(f"{file} is no MCAP file: its first bytes are not MCAP's")
        while (start := stream.tell()) < size:
            head = stream.read(_HEAD.size)
            if len(head) < _HEAD.size:
                lost(f"the file ends within the record at byte {start}")
                return
            opcode, length = _HEAD.unpack(head)
            if opcode in (_FOOTER, _DATA_END):
                return
            if not 0 < opcode <= _LAST_OPCODE:
                lost(f"there is no record at byte {start}: the {size - start} bytes from there on")
                return
            whole = start + _HEAD.size + length <= size
            if not whole:
                lost(f"the file ends within the record at byte {start}, which has {length} bytes")
            if opcode == _CHUNK:
                yield from reader.chunk(stream.read(length), whole)
            elif whole and opcode in (_SCHEMA, _CHANNEL, _MESSAGE):
                yield from reader.record(opcode, stream.read(length))
            else:
                stream.seek(length, 1)


class _Records:
    """What schemas and channels have said so far."""

    def __init__(self, lost: Lost):
        self._lost = lost
        self._schemas: dict[int, tuple[str, str, bytes]] = {}
        self._topics: dict[int, str] = {}

    def record(self, opcode: int, body: bytes | memoryview) -> Iterator[StoredTopic | RawMessage]:
        if opcode == _MESSAGE:
            channel, _, receive_ns, _ = struct.unpack_from("<HIQQ", body)
            if channel in self._topics:
                yield RawMessage(self._topics[channel], receive_ns, bytes(body[22:]))
        elif opcode == _SCHEMA:
            (number,) = struct.unpack_from("<H", body)
            name, at = _text(body, 2)
            encoding, at = _text(body, at)
            self._schemas[number] = name, encoding, bytes(body[at + 4 :])
        elif opcode == _CHANNEL:
            number, schema = struct.unpack_from("<HH", body)
            topic, at = _text(body, 4)
            if number not in self._topics:
                self._topics[number] = topic
                name, encoding, text = self._schemas.get(schema, ("", "", b""))
                found = definition(encoding, text.decode(errors="replace")) if name else NO_DEFINITION
                yield StoredTopic(topic, name, found)

    def chunk(self, body: bytes, whole: bool) -> Iterator[StoredTopic | RawMessage]:
        """Topics, then messages by time, of a chunk; of a cut-off one, those in the part that is there."""
        messages = []
        try:
            for opcode, record in _split(self._decompressed(body, whole)):
                for item in self.record(opcode, record):
                    if isinstance(item, StoredTopic):
                        yield item
                    else:
                        messages.append(item)
        except (struct.error, UnicodeDecodeError) as error:
            self._lost(f"a chunk ends in bytes that are no record ({error})")
        yield from sorted(messages, key=lambda message: message.receive_ns)

    def _decompressed(self, body: bytes, whole: bool) -> bytes:
        start_ns, end_ns, size, crc = struct.unpack_from("<QQQI", body)
        compression, at = _text(body, 28)
        data = body[at + 8 :]
        try:
            if compression == "zstd":
                data = zstd.ZstdDecompressor().decompress(data)
            elif compression == "lz4":
                data = lz4.frame.LZ4FrameDecompressor().decompress(data)
            elif compression:
                raise ValueError(f"unknown compression '{compression}'")
            if whole and (len(data) != size or (crc and zlib.crc32(data) != crc)):
                raise ValueError("its checksum does not fit")
        except (ValueError, EOFError, RuntimeError, zstd.ZstdError) as error:
            self._lost(f"a chunk of {(end_ns - start_ns) / 1e9:.1f} s from {start_ns / 1e9:.3f} s on ({error})")
            return b""
        return data


def _split(data: bytes) -> Iterator[tuple[int, memoryview]]:
    """Opcode and body of each whole record in ``data``."""
    view, at = memoryview(data), 0
    while at + _HEAD.size <= len(view):
        opcode, length = _HEAD.unpack_from(view, at)
        at += _HEAD.size
        if at + length > len(view):
            return
        yield opcode, view[at : at + length]
        at += length


def _text(body: bytes | memoryview, at: int) -> tuple[str, int]:
    """The text with its length before it, and where it ends."""
    (length,) = struct.unpack_from("<I", body, at)
    end = at + 4 + length
    return bytes(body[at + 4 : end]).decode(), end
