"""Index readers of a recording's files, kept open between uses: to open one costs rosbags 5 ms a topic (it parses the
QoS), in SQLite a pass over the table, and in ROS 1 bags one over the index."""

from __future__ import annotations

import re
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader

Reader = Ros1Reader | Ros2Reader
ROS1_NAME = re.compile(r".*\.bag(\.active)?")
_MOST_IDLE = 4  # each has a file descriptor, and of a ROS 1 bag its index in memory


class Readers:
    """Opens readers. A reader has one place in its file, so it has one user at a time."""

    def __init__(self) -> None:
        self._idle: OrderedDict[Path, Reader] = OrderedDict()
        weakref.finalize(self, _close_all, self._idle)

    @contextmanager
    def open(self, file: Path, keep: bool = True) -> Iterator[Reader]:
        """A reader of ``file``, which is ``keep``-ed for the next user unless an error comes up."""
        reader = self._idle.pop(file, None)
        if reader is None:
            reader = Ros1Reader(file) if ROS1_NAME.fullmatch(file.name) else Ros2Reader(file)
            reader.open()
        try:
            yield reader
        except GeneratorExit:  # the user has enough
            self._give_back(file, reader, keep)
            raise
        except BaseException:
            reader.close()
            raise
        self._give_back(file, reader, keep)

    def _give_back(self, file: Path, reader: Reader, keep: bool) -> None:
        if not keep or file in self._idle:
            reader.close()
            return
        self._idle[file] = reader
        if len(self._idle) > _MOST_IDLE:
            self._idle.popitem(last=False)[1].close()


def _close_all(idle: OrderedDict[Path, Reader]) -> None:
    for reader in idle.values():
        reader.close()
