"""Writes mcap files (https://mcap.dev/spec) whose messages are large and not compressed, without copying them.

The bytes are those that the writer of the mcap library gives. That one copies each message twice in memory before it is
written, and goes through it twice for the checksums: a replay beside a GPU would wait for it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import IO, TypeAlias

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Channel,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)
from mcap.writer import MCAP0_MAGIC

from da3_ros.crc32 import crc32, crc32_combine

Bytes: TypeAlias = bytes | memoryview

CHUNK_BYTES = 1 << 20  # a chunk ends with the record that makes it larger
_MESSAGE = struct.Struct("<BQHIQQ")  # opcode, length; channel, sequence, times of recording and of publishing
_CHUNK = struct.Struct("<BQQQQIIQ")  # opcode, length; times, size and checksum unpacked, no compression, size
_FOOTER = struct.Struct("<BQQQ")  # what the summary's checksum covers of it
_RECORD_HEAD = 9  # opcode and length


class McapFile:
    """Appends to ``stream``: chunks without compression, all indexes, checksums of chunks, data and summary."""

    def __init__(self, stream: IO[bytes], profile: str, library: str):
        self._stream = stream
        self._at = self._crc = 0  # what was written
        self._schemas: list[Schema] = []
        self._channels: list[Channel] = []
        self._chunks: list[ChunkIndex] = []
        self._metadata: list[MetadataIndex] = []
        self._counts = Statistics(
            attachment_count=0, channel_count=0, channel_message_counts={}, chunk_count=0, message_count=0,
            message_end_time=0, message_start_time=0, metadata_count=0, schema_count=0,
        )  # fmt: skip
        self._span: tuple[int, int] | None  # times of the first and the last message of the chunk
        self._begin_chunk()
        self._write(MCAP0_MAGIC)
        self._write(_record(Header(profile, library)))

    def register_schema(self, name: str, encoding: str, data: bytes) -> int:
        """The number of a new schema."""
        schema = Schema(len(self._schemas) + 1, data, encoding, name)
        self._schemas.append(schema)
        self._append([_record(schema)])
        return schema.id

    def register_channel(self, topic: str, encoding: str, schema: int, metadata: Mapping[str, str]) -> int:
        """The number of a new channel, whose messages are of ``schema``."""
        channel = Channel(len(self._channels) + 1, topic, encoding, dict(metadata), schema)
        self._channels.append(channel)
        self._append([_record(channel)])
        return channel.id

    def add_message(self, channel: int, log_ns: int, pieces: Sequence[Bytes]) -> None:
        """Write a message of these bytes, one behind the other, as recorded and published at ``log_ns``.

        They are kept until the chunk is written, and must not be changed before.
        """
        start_ns, end_ns = self._span or (log_ns, log_ns)
        self._span = min(start_ns, log_ns), max(end_ns, log_ns)
        counts = self._counts
        counts.message_start_time = min(counts.message_start_time, log_ns) if counts.message_count else log_ns
        counts.message_end_time = max(counts.message_end_time, log_ns)
        counts.message_count += 1
        counts.channel_message_counts[channel] = counts.channel_message_counts.get(channel, 0) + 1
        self._indexes.setdefault(channel, MessageIndex(channel, [])).records.append((log_ns, self._size))
        length = _MESSAGE.size - _RECORD_HEAD + sum(len(piece) for piece in pieces)
        self._append([_MESSAGE.pack(Opcode.MESSAGE, length, channel, 0, log_ns, log_ns), *pieces])

    def add_metadata(self, name: str, metadata: Mapping[str, str]) -> None:
        """Write a record of metadata; where a chunk has begun, before it."""
        data = _record(Metadata(name, dict(metadata)))
        self._metadata.append(MetadataIndex(self._at, len(data), name))
        self._write(data)

    def flush(self) -> int:
        """Bring all messages to the file, in a chunk that ends here; how many bytes there are now."""
        self._end_chunk()
        self._stream.flush()
        return self._at

    def finish(self) -> None:
        """Write the rest of a complete file. Does not close the stream."""
        self._end_chunk()
        self._write(_record(DataEnd(self._crc)))
        counts = self._counts
        counts.schema_count, counts.channel_count = len(self._schemas), len(self._channels)
        counts.chunk_count, counts.metadata_count = len(self._chunks), len(self._metadata)
        groups: list[tuple[Opcode, Sequence[McapRecord]]] = [
            (Opcode.SCHEMA, self._schemas),
            (Opcode.CHANNEL, self._channels),
            (Opcode.STATISTICS, [counts]),
            (Opcode.CHUNK_INDEX, self._chunks),
            (Opcode.ATTACHMENT_INDEX, []),
            (Opcode.METADATA_INDEX, self._metadata),
        ]
        start, summary, offsets = self._at, b"", b""
        for opcode, records in groups:
            group = b"".join(_record(record) for record in records)
            offsets += _record(SummaryOffset(opcode, start + len(summary), len(group)))
            summary += group
        offsets_start, summary = start + len(summary), summary + offsets
        head = _FOOTER.pack(Opcode.FOOTER, _FOOTER.size - _RECORD_HEAD + 4, start, offsets_start)
        crc = crc32(head, crc32(summary))
        self._stream.writelines([summary, _record(Footer(start, offsets_start, crc)), MCAP0_MAGIC])

    def _begin_chunk(self) -> None:
        self._pieces: list[Bytes] = []
        self._size = self._chunk_crc = 0
        self._span = None
        self._indexes: dict[int, MessageIndex] = {}

    def _append(self, pieces: Sequence[Bytes]) -> None:
        """Add a record to the chunk."""
        for piece in pieces:
            self._chunk_crc = crc32(piece, self._chunk_crc)
            self._size += len(piece)
        self._pieces += pieces
        if self._size > CHUNK_BYTES:
            self._end_chunk()

    def _end_chunk(self) -> None:
        """Write the chunk, unless it has no messages; schemas and channels then wait for the next one."""
        if self._span is None:
            return
        size, length = self._size, _CHUNK.size + self._size
        head = _CHUNK.pack(Opcode.CHUNK, length - _RECORD_HEAD, *self._span, size, self._chunk_crc, 0, size)
        index = ChunkIndex(
            chunk_length=length, chunk_start_offset=self._at, compression="", compressed_size=size,
            message_end_time=self._span[1], message_index_length=0, message_index_offsets={},
            message_start_time=self._span[0], uncompressed_size=size,
        )  # fmt: skip
        self._chunks.append(index)
        self._stream.write(head)
        self._stream.writelines(self._pieces)
        self._at += length
        self._crc = crc32_combine(crc32(head, self._crc), self._chunk_crc, size)
        indexes_at = self._at
        for channel, messages in self._indexes.items():
            index.message_index_offsets[channel] = self._at
            self._write(_record(messages))
        index.message_index_length = self._at - indexes_at
        self._begin_chunk()

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self._at += len(data)
        self._crc = crc32(data, self._crc)


def _record(record: McapRecord) -> bytes:
    builder = RecordBuilder()
    record.write(builder)
    return builder.end()
