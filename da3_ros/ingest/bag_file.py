"""One file of a recording: read by its index where that is whole, record by record where it is not."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rosbags.interfaces import ConnectionExtRosbag1

from da3_ros.errors import InputError
from da3_ros.ingest.bag_checksums import check_index, has_checksums
from da3_ros.ingest.bag_readers import ROS1_NAME, Reader, Readers
from da3_ros.ingest.bag_scan import Lost, RawMessage, Scan, StoredTopic
from da3_ros.ingest.bag_scan_mcap import scan_mcap
from da3_ros.ingest.bag_scan_ros1 import scan_ros1
from da3_ros.ingest.bag_scan_sqlite import scan_sqlite
from da3_ros.ingest.decompress import zstd
from da3_ros.ingest.remarks import Remarks

COMPRESSED_SUFFIX = ".zstd"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def is_bag_file(file: Path) -> bool:
    """Whether the name is that of a recording's file."""
    name = file.name.removesuffix(COMPRESSED_SUFFIX)
    return name.endswith((".mcap", ".db3")) or ROS1_NAME.fullmatch(name) is not None


class BagFile:
    """What one file holds: ``topics``, ``start_ns`` and ``end_ns`` (None: no messages) of what is readable.

    ``lost``: what is not; it grows while messages are read. ``checked``: whether damaged messages would be noticed. A
    file compressed as a whole is unpacked into a temporary folder for as long as it is being read. ``readers``: open
    ones, shared by the files of a recording. Raises InputError where nothing is readable.
    """

    def __init__(self, path: Path, readers: Readers):
        self.path = path
        self._readers = readers
        self.lost = Remarks()
        self.topics: tuple[StoredTopic, ...] = ()
        self.start_ns: int | None = None
        self.end_ns: int | None = None
        self._indexed = False
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty")
        with _unpacked(path, self._lose) as file:
            # A damaged file makes the reader raise anything, from its own errors to those of struct and zstd.
            try:
                check_index(file)
                with self._readers.open(file, keep=file == path) as reader:
                    self._describe(reader)
                    self._indexed = True
            except Exception as error:
                self._lose(f"its index cannot be used ({_short(error)}), so it is read from the front")
                self._survey(_scan(file))
            self.checked = has_checksums(file)

    @property
    def messages(self) -> int:
        """Number of readable messages, as far as known without reading them."""
        return sum(topic.messages for topic in self.topics)

    def read(self, names: Collection[str], start_ns: int, stop_ns: int) -> Iterator[RawMessage]:
        """Messages of the topics ``names`` recorded from ``start_ns`` to before ``stop_ns``, oldest first."""
        damaged: Counter[tuple[str, int]] = Counter()
        for raw in self._stored(names, start_ns, stop_ns):
            try:
                data = _message_bytes(raw.data)
            except (EOFError, zstd.ZstdError):
                damaged[raw.topic, raw.receive_ns] += 1
                number = damaged[raw.topic, raw.receive_ns]
                what = f" messages of {raw.topic} cannot be unpacked"
                self.lost.count(f"{self.path.name}: ", what, raw.receive_ns, number)
                continue
            yield replace(raw, data=data)

    def _stored(self, names: Collection[str], start_ns: int, stop_ns: int) -> Iterator[RawMessage]:
        """The same as they are in the file, maybe each of them compressed."""
        with _unpacked(self.path, _ignore) as file:
            if not self._indexed:
                yield from _selected(_scan(file)(_ignore), names, start_ns, stop_ns)
                return
            last_ns = start_ns
            at_last: list[RawMessage] = []  # messages of that time which have been given already
            try:
                for message in self._indexed_messages(file, names, start_ns, stop_ns):
                    if message.receive_ns != last_ns:
                        last_ns, at_last = message.receive_ns, []
                    at_last.append(message)
                    yield message
                return
            except GeneratorExit:
                raise
            except Exception as error:
                self._lose(f"from {last_ns / 1e9:.3f} s on its index is of no use ({_short(error)})")
            # What is left, behind the damage too, by going through the file.
            for message in _selected(_scan(file)(self._lose), names, last_ns, stop_ns):
                if message not in at_last:
                    yield message

    def _indexed_messages(
        self, file: Path, names: Collection[str], start_ns: int, stop_ns: int
    ) -> Iterator[RawMessage]:
        with self._readers.open(file, keep=file == self.path) as reader:
            wanted = [one for one in reader.connections if one.topic in names]
            if wanted:  # none would mean all
                for connection, receive_ns, data in reader.messages(wanted, start_ns, stop_ns):
                    yield RawMessage(connection.topic, receive_ns, data)

    def _describe(self, reader: Reader) -> None:
        found: dict[tuple[str, str], StoredTopic] = {}
        for one in reader.connections:
            key = one.topic, one.msgtype
            known = found.get(key)
            count = one.msgcount + (known.messages if known else 0)
            found[key] = StoredTopic(
                one.topic, one.msgtype, one.msgdef, isinstance(one.ext, ConnectionExtRosbag1), one.digest, count
            )
        self.topics = tuple(found.values())
        if self.messages:
            self.start_ns, self.end_ns = reader.start_time, reader.end_time

    def _survey(self, scan: Scan) -> None:
        """Go through the whole file once to find what there is."""
        topics: dict[str, StoredTopic] = {}
        counts: dict[str, int] = {}
        stamps: list[int] = []
        for item in scan(self._lose):
            if isinstance(item, StoredTopic):
                topics.setdefault(item.name, item)
            else:
                counts[item.topic] = counts.get(item.topic, 0) + 1
                stamps = [min([*stamps, item.receive_ns]), max([*stamps, item.receive_ns])]
        self.topics = tuple(replace(topic, messages=counts.get(name, 0)) for name, topic in topics.items())
        if stamps:
            self.start_ns, self.end_ns = stamps[0], stamps[-1] + 1

    def _lose(self, what: str) -> None:
        self.lost.say(f"{self.path.name}: {what}")


def _scan(file: Path) -> Scan:
    if file.suffix == ".mcap":
        return lambda lost: scan_mcap(file, lost)
    if file.suffix == ".db3":
        return lambda lost: scan_sqlite(file, lost)
    return lambda lost: scan_ros1(file, lost)


def _selected(items: Iterator[Any], names: Collection[str], start_ns: int, stop_ns: int) -> Iterator[RawMessage]:
    for item in items:
        if isinstance(item, RawMessage) and item.topic in names and start_ns <= item.receive_ns < stop_ns:
            yield item


def _message_bytes(data: bytes) -> bytes:
    """A message, unpacked where rosbag2 compressed each by itself: what is serialized never starts like zstd."""
    return zstd.decompress(data) if data[:4] == _ZSTD_MAGIC else data


@contextmanager
def _unpacked(path: Path, lost: Lost) -> Iterator[Path]:
    """``path``, or what it holds where it is compressed as a whole, as far as it can be unpacked."""
    if path.suffix != COMPRESSED_SUFFIX:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="da3_ros_bag_") as folder:
        file = Path(folder) / path.name.removesuffix(COMPRESSED_SUFFIX)
        with file.open("wb") as out:
            try:
                with zstd.open(path, "rb") as stream:
                    shutil.copyfileobj(stream, out, 1 << 20)
            except (EOFError, zstd.ZstdError) as error:
                lost(f"it cannot be unpacked to its end ({_short(error)})")
        yield file


def _short(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _ignore(_: str) -> None:
    """Losses that were told when the file was opened."""
