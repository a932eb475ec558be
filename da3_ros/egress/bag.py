"""Writes recordings: rosbag2 with mcap storage, messages of the rosbags library, the same bytes at every run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from da3_ros.egress.messages import MessageBuilder
from da3_ros.errors import InputError
from da3_ros.share import share_folder

_NEVER = QosTime(2147483647, 4294967295)


@cache
def message_types() -> Typestore:
    """The standard types of ROS 2 and those of this package."""
    store = get_typestore(Stores.ROS2_KILTED)
    for file in sorted((share_folder() / "msg").glob("*.msg")):
        store.register(get_types_from_msg(file.read_text(), f"da3_ros/msg/{file.stem}"))
    return store


@cache
def message_builder() -> MessageBuilder:
    """Makes messages of ``message_types``."""
    return MessageBuilder(message_types().types.__getitem__, np.ascontiguousarray)


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
        (folder / name / f"{name}.mcap").rename(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class BagWriter:
    """A new rosbag2 folder at ``path``; to be used in a with statement. Raises InputError where it cannot be made."""

    def __init__(self, path: Path):
        if path.exists():
            raise InputError(f"{path} exists already: give another name, or delete it")
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        try:
            self._writer.open()
        except OSError as error:
            raise InputError(f"{self._writer.path} cannot be written: {error.strerror or error}") from error
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        # What was cut short must not look complete.
        if kind is None:
            self._writer.close()
        else:
            self._writer.abort()

    def write(self, topic: str, receive_ns: int, message: Any) -> None:
        """Write a message of ``message_types`` as recorded at ``receive_ns``."""
        kind = message.__msgtype__
        self.write_raw(topic, kind, receive_ns, message_types().serialize_cdr(message, kind), message_types())

    def write_raw(self, topic: str, kind: str, receive_ns: int, data: bytes | memoryview, types: Typestore) -> None:
        """Write a message that is serialized already; ``types`` knows ``kind``."""
        if topic not in self._connections:
            qos = _qos(latched=topic.rpartition("/")[2] == "tf_static")
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=types, offered_qos_profiles=[qos]
            )
        self._writer.write(self._connections[topic], receive_ns, data)


def _qos(latched: bool) -> Qos:
    durability = QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE
    return Qos(
        QosHistory.KEEP_LAST, 10, QosReliability.RELIABLE, durability, _NEVER, _NEVER, QosLiveliness.AUTOMATIC, _NEVER,
        False,
    )  # fmt: skip
