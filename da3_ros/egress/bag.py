"""Writes recordings: rosbag2 with mcap storage and checksums, messages of the rosbags library, the same bytes at every
run."""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk
from rosbags.typesys.store import Typestore

from da3_ros.egress.bag_metadata import RecordedTopic, folder_metadata, offered_qos, stored_metadata
from da3_ros.egress.mcap_file import Bytes, McapFile
from da3_ros.egress.message_pieces import serialized
from da3_ros.egress.message_types import message_types
from da3_ros.errors import InputError


class DamagedError(InputError):
    """What is to be gone on with cannot be read."""


@contextmanager
def new_recording(path: Path, name: str = "recording") -> Iterator[BagWriter]:
    """The writer of ``path``, which appears when it is complete: with the suffix .mcap one file, else a rosbag2 folder.

    ``name``: of the one file while it is written, which becomes part of its bytes. Raises InputError where ``path``
    exists or cannot be written.
    """
    if path.exists():
        raise InputError(f"{path} exists already: give another name, or delete it")
    if path.suffix != ".mcap":
        with BagWriter(path) as writer:
            yield writer
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        with BagWriter(folder / name) as writer:
            yield writer
        writer.file.rename(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class BagWriter:
    """A new rosbag2 folder at ``path`` with one mcap ``file``, called ``name``; to be used in a with statement.

    Chunks, data and index have checksums, so that readers notice damage. Raises InputError where it cannot be made, and
    where the disk is full.
    """

    def __init__(self, path: Path, name: str = ""):
        if path.exists():
            raise InputError(f"{path} exists already: give another name, or delete it")
        self.path, self.file = path, path / f"{name or path.name}.mcap"
        self._topics: dict[str, RecordedTopic] = {}
        self._schemas: dict[str, int] = {}

    def __enter__(self) -> BagWriter:
        with self._written():
            self.path.mkdir(parents=True)
            self._stream: IO[bytes] = self.file.open("xb")
            self._writer = McapFile(self._stream, "ros2", "da3_ros")
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:  # what was cut short must not look complete
            with suppress(OSError):
                self._stream.close()
            return
        with self._written():
            topics = list(self._topics.values())
            self._writer.add_metadata("rosbag2", {"serialized_metadata": stored_metadata(self.file.name, topics)})
            self._writer.finish()
            self._stream.close()
            (self.path / "metadata.yaml").write_text(folder_metadata(self.file.name, topics))

    def write(self, topic: str, receive_ns: int, message: Any) -> None:
        """Write a message of ``message_types`` as recorded at ``receive_ns``; its arrays must not be changed later."""
        self._write(topic, message.__msgtype__, receive_ns, serialized(message), message_types())

    def write_raw(self, topic: str, kind: str, receive_ns: int, data: Bytes, types: Typestore) -> None:
        """Write a message that is serialized already; ``types`` knows ``kind``."""
        self._write(topic, kind, receive_ns, [data], types)

    def _write(self, topic: str, kind: str, receive_ns: int, pieces: Sequence[Bytes], types: Typestore) -> None:
        with self._written():
            known = self._topics.get(topic)
            if known is None:
                known = self._topics[topic] = self._register(topic, kind, types)
            known.note(receive_ns)
            self._writer.add_message(known.channel, receive_ns, pieces)

    def flush(self) -> int:
        """Bring everything so far to the file, in a chunk of its own; how many bytes there are now."""
        with self._written():
            return self._writer.flush()

    def take_over(
        self, file: Path, size: int, types: Callable[[str], Typestore], taken: Callable[[str, bytes], None]
    ) -> None:
        """Write the messages in the first ``size`` bytes of ``file``, another one of this class, in the same chunks.

        ``types``: those that know a topic's. ``taken`` is told topic and data of each. Raises DamagedError where they
        are damaged or gone.
        """
        schemas: dict[int, str] = {}
        topics: dict[int, tuple[str, str]] = {}
        try:
            with _readable(file) as stream:
                for record in StreamReader(stream, emit_chunks=True).records:
                    for item in breakup_chunk(record, validate_crc=True) if isinstance(record, Chunk) else ():
                        if isinstance(item, Schema):
                            schemas[item.id] = item.name
                        elif isinstance(item, Channel):
                            topics[item.id] = item.topic, schemas[item.schema_id]
                        elif isinstance(item, Message):
                            topic, kind = topics[item.channel_id]
                            self.write_raw(topic, kind, item.log_time, item.data, types(topic))
                            taken(topic, item.data)
                    self.flush()
                    if stream.tell() >= size:
                        return
        except (McapError, ValueError, KeyError, struct.error) as error:
            raise DamagedError(f"{file} is damaged ({error})") from error

    def _register(self, topic: str, kind: str, types: Typestore) -> RecordedTopic:
        if kind not in self._schemas:
            definition, _ = types.generate_msgdef(kind, ros_version=2)
            self._schemas[kind] = self._writer.register_schema(kind, "ros2msg", definition.encode())
        latched = topic.rpartition("/")[2] == "tf_static"
        profiles = {"offered_qos_profiles": offered_qos(latched)}
        channel = self._writer.register_channel(topic, "cdr", self._schemas[kind], profiles)
        return RecordedTopic(channel, topic, kind, types.hash_rihs01(kind), latched)

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror or error}") from error


def _readable(file: Path) -> IO[bytes]:
    try:
        return file.open("rb")
    except OSError as error:
        raise DamagedError(f"{file} cannot be read ({error.strerror or error})") from error
