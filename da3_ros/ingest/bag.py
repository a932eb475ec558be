"""Recordings: rosbag2 (mcap, sqlite3; split, compressed) and ROS 1 bags as one stream of messages, oldest first.

Reads through the rosbags library, needs no ROS, and holds no more than a few chunks of each bag in memory.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from da3_ros.errors import InputError
from da3_ros.ingest.bag_file import COMPRESSED_SUFFIX, BagFile, is_bag_file
from da3_ros.ingest.bag_readers import Readers
from da3_ros.ingest.bag_scan import RawMessage, StoredTopic
from da3_ros.ingest.remarks import Remarks

_FOREVER_NS = 2**63 - 1
_CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True)
class BagMessage:
    """A message and when it was recorded. ``message`` has the fields of its ROS 2 definition."""

    topic: str
    type: str
    receive_ns: int
    message: Any


class Bag:
    """The recordings ``paths`` (files or rosbag2 folders) together.

    ``topics``: name -> what is there. ``lost``: what cannot be read of damaged files, in sentences; it grows while
    messages are read. ``unchecked``: a sentence about damage that would go unnoticed, None where all has checksums.
    Files that are compressed as a whole are unpacked into a temporary folder, one at a time.

    Raises InputError for what is no recording, and where nothing of one is readable.
    """

    def __init__(self, paths: Sequence[Path]):
        self._lost = Remarks()
        self._readers = Readers()
        self._bags = [self._open(path) for path in paths]
        files = [file for bag in self._bags for file in bag]
        self._files = files
        self.topics: dict[str, StoredTopic] = {}
        for file in files:
            for topic in file.topics:
                self._add(topic, file)
        starts = [file.start_ns for file in files if file.start_ns is not None]
        if not starts:
            raise InputError(f"{', '.join(map(str, paths))} has no messages{_reasons(self.lost)}")
        self.start_ns: int = min(starts)
        self.end_ns: int = max(file.end_ns for file in files if file.end_ns is not None)
        self._stores = {ros1: _typestore(files, ros1) for ros1 in {topic.ros1 for topic in self.topics.values()}}

    @property
    def lost(self) -> list[str]:
        """What cannot be read, a sentence each."""
        return self.losses().texts()

    def losses(self) -> Remarks:
        """What cannot be read, to be joined with what other readers of the recording have found."""
        all_of_it = Remarks()
        for lost in (self._lost, *(file.lost for file in self._files)):
            all_of_it.merge(lost)
        return all_of_it

    @property
    def unchecked(self) -> str | None:
        """Which files have no checksums, and what that means."""
        names = [file.path.name for file in self._files if not file.checked]
        if not names:
            return None
        more = f" and {len(names) - 1} more have" if len(names) > 1 else " has"
        return f"{names[0]}{more} no checksums: values that were changed on the disk would go unnoticed"

    @property
    def messages_total(self) -> int:
        """Number of readable messages."""
        return sum(file.messages for file in self._files)

    def count(self, topics: Collection[str]) -> int:
        """Number of readable messages of ``topics``."""
        return sum(self.topics[name].messages for name in topics if name in self.topics)

    def raw(
        self, topics: Collection[str] | None = None, start_ns: int = 0, stop_ns: int = _FOREVER_NS
    ) -> Iterator[RawMessage]:
        """Serialized messages of ``topics`` (None: all) recorded from ``start_ns`` to before ``stop_ns``.

        In the order in which they were recorded; several bags are merged.
        """
        names = set(self.topics) if topics is None else set(topics)
        streams = [self._raw(bag, names, start_ns, stop_ns) for bag in self._bags]
        yield from heapq.merge(*streams, key=lambda message: message.receive_ns)

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int = 0, stop_ns: int = _FOREVER_NS
    ) -> Iterator[BagMessage]:
        """The same, deserialized. Messages that cannot be are left out and show in ``lost``."""
        broken: Counter[tuple[str, int]] = Counter()
        for raw in self.raw(topics, start_ns, stop_ns):
            message = self.deserialize(raw)
            if message is not None:
                yield BagMessage(raw.topic, self.topics[raw.topic].type, raw.receive_ns, message)
            else:
                broken[raw.topic, raw.receive_ns] += 1
                number = broken[raw.topic, raw.receive_ns]
                self._lost.count("", f" messages of {raw.topic} cannot be deserialized", raw.receive_ns, number)

    def deserialize(self, raw: RawMessage) -> Any | None:
        """The message in ``raw``; None where its bytes do not fit its type."""
        topic = self.topics[raw.topic]
        store = self._stores[topic.ros1]
        try:
            if topic.ros1:
                return store.deserialize_ros1(raw.data, topic.type)
            return store.deserialize_cdr(raw.data, topic.type)
        except Exception:  # bytes of another type, or cut off, make it raise anything
            return None

    def to_ros2(self, raw: RawMessage) -> bytes | None:
        """The message as ROS 2 serializes it; None for a type of ROS 1 that ROS 2 does not have."""
        topic = self.topics[raw.topic]
        if not topic.ros1:
            return raw.data
        try:
            return bytes(_ros2_store().ros1_to_cdr(raw.data, topic.type))
        except (KeyError, SerdeError):
            return None

    def ros2_types(self) -> Typestore:
        """The types of the topics, as a ROS 2 recording defines them."""
        return self._stores.get(False) or _ros2_store()

    def _open(self, path: Path) -> list[BagFile]:
        if not path.exists():
            raise InputError(f"there is no recording {path}")
        if path.is_file():
            if not is_bag_file(path):
                raise InputError(
                    f"{path} is no recording: wanted a .mcap, .db3 or .bag file (also with {COMPRESSED_SUFFIX}), or "
                    "the folder of a rosbag2"
                )
            return [BagFile(path, self._readers)]
        files = []
        for file in _files_of(path, self._lost):
            try:
                files.append(BagFile(file, self._readers))
            except InputError as error:
                self._lost.say(str(error))
        if not files:
            raise InputError(f"{path} holds no recording that can be read{_reasons(self._lost.texts())}")
        return files

    def _add(self, topic: StoredTopic, file: BagFile) -> None:
        known = self.topics.get(topic.name)
        if known is None:
            self.topics[topic.name] = topic
        elif (known.type, known.ros1) == (topic.type, topic.ros1):
            total = known.messages + topic.messages
            self.topics[topic.name] = StoredTopic(
                known.name, known.type, known.definition, known.ros1, known.digest, total
            )
        else:
            raise InputError(
                f"{topic.name} is {known.type} in one file and {topic.type} in {file.path.name}: give the bags one by "
                "one"
            )

    @staticmethod
    def _raw(bag: list[BagFile], names: set[str], start_ns: int, stop_ns: int) -> Iterator[RawMessage]:
        """The files of one bag one after the other, so that only one of them is open."""
        for file in bag:
            if file.start_ns is None or file.end_ns is None or file.start_ns >= stop_ns or file.end_ns <= start_ns:
                continue
            yield from file.read(names, start_ns, stop_ns)


@cache
def _ros2_store() -> Typestore:
    return get_typestore(Stores.ROS2_KILTED)


def _files_of(folder: Path, lost: Remarks) -> list[Path]:
    """The files of a rosbag2 folder in the order of its metadata.yaml, or by name where the recorder died before it
    wrote that."""
    there = sorted((file for file in folder.iterdir() if is_bag_file(file)), key=_natural)
    try:
        content = yaml.safe_load((folder / "metadata.yaml").read_text())
        listed = [Path(name).name for name in content["rosbag2_bagfile_information"]["relative_file_paths"]]
    except FileNotFoundError:
        lost.say(f"{folder.name}: metadata.yaml is missing: all its files are read, in the order of their names")
        return there
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        lost.say(f"{folder.name}: metadata.yaml cannot be used ({type(error).__name__}): all its files are read")
        return there
    names = {file.name for file in there}
    for name in listed:
        if name not in names:
            lost.say(f"{folder.name}: its file {name} is missing")
    return [folder / name for name in listed if name in names]


def _natural(file: Path) -> list[tuple[int, str]]:
    """Sorts name_10 after name_9."""
    return [(int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", file.name)]


def _reasons(lost: Sequence[str]) -> str:
    return f" ({'; '.join(lost)})" if lost else ""


def _typestore(files: Sequence[BagFile], ros1: bool) -> Typestore:
    """The types of the recordings: as the files define them, and for the rest as ROS does."""
    topics = [topic for file in files for topic in file.topics if topic.ros1 == ros1]
    defined = [topic for topic in topics if topic.definition.format != MessageDefinitionFormat.NONE]
    return _store_of(tuple(dict.fromkeys((topic.type, topic.definition) for topic in defined)), ros1)


@lru_cache(maxsize=8)
def _store_of(defined: tuple[tuple[str, MessageDefinition], ...], ros1: bool) -> Typestore:
    """Kept, since ROS's types alone take half a second, and a recording is opened several times."""
    base = get_typestore(Stores.ROS1_NOETIC if ros1 else Stores.ROS2_KILTED)
    definitions: dict[str, Any] = {}
    for kind, definition in defined:
        definitions.update(_types(kind, definition))
    if ros1:
        # ROS 1's CameraInfo (D, K, R, P) gets the field names of ROS 2: a message's bytes know no names.
        constants, fields = definitions.get(_CAMERA_INFO, base.fielddefs[_CAMERA_INFO])
        definitions[_CAMERA_INFO] = constants, [(name.lower(), kind) for name, kind in fields]
    known = base.fielddefs
    if all(_same_fields(known[name], found) for name, found in definitions.items() if name in known):
        base.register({name: found for name, found in definitions.items() if name not in known})
        return base
    store = get_typestore(Stores.EMPTY)
    store.register({**known, **definitions})
    return store


def _same_fields(ours: Any, theirs: Any) -> bool:
    """Whether two definitions (constants and fields) are of the same fields."""
    return list(ours[1]) == list(theirs[1])


def _types(kind: str, definition: MessageDefinition) -> Mapping[str, Any]:
    if definition.format == MessageDefinitionFormat.IDL:
        return get_types_from_idl(definition.data)
    return get_types_from_msg(definition.data, kind)
