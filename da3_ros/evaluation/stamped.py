"""Messages of one topic by the stamps in their headers, read along with what they are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from da3_ros.errors import InputError
from da3_ros.ingest.bag import Bag

# How much later or earlier than the pictures a message about them may have been recorded.
_SLACK_NS = 5_000_000_000


class StampedMessages:
    """The messages on ``topic`` of ``bag`` that were recorded from ``start_ns`` to ``stop_ns``, give or take some
    seconds.

    Holds those around the last stamp that was asked for. Raises InputError for a topic that is not there, or of
    another type than ``kind``.
    """

    def __init__(self, bag: Bag, topic: str, kind: str, tolerance_ns: int, start_ns: int = 0, stop_ns: int = 2**63 - 1):
        if topic not in bag.topics or bag.topics[topic].type != kind:
            there = sorted(name for name, found in bag.topics.items() if found.type == kind)
            raise InputError(
                f"the recording has no topic {topic} of type {kind}; there are: {', '.join(there) or 'none'}"
            )
        self.topic = topic
        self._tolerance_ns = tolerance_ns
        stop_ns = min(stop_ns, 2**63 - 1 - _SLACK_NS) + _SLACK_NS
        self._messages: Iterator[Any] = (
            found.message for found in bag.messages([topic], max(0, start_ns - _SLACK_NS), stop_ns)
        )
        self._ahead: Any = next(self._messages, None)
        self._kept: list[Any] = []
        self._newest: Any = None

    def nearest(self, stamp_ns: int) -> Any | None:
        """The message whose stamp is nearest to ``stamp_ns``; None where none is within the tolerance.

        Stamps must not decrease from call to call.
        """
        while self._ahead is not None and stamp_of(self._ahead) <= stamp_ns + self._tolerance_ns:
            self._kept.append(self._ahead)
            self._ahead = next(self._messages, None)
        self._kept = [message for message in self._kept if stamp_of(message) >= stamp_ns - self._tolerance_ns]
        return min(self._kept, key=lambda message: abs(stamp_of(message) - stamp_ns), default=None)

    def latest(self, stamp_ns: int) -> Any | None:
        """The newest message that is not after ``stamp_ns``, or the first one where all are; None without any.

        Stamps must not decrease from call to call.
        """
        while self._ahead is not None and (self._newest is None or stamp_of(self._ahead) <= stamp_ns):
            self._newest = self._ahead
            self._ahead = next(self._messages, None)
        return self._newest


def stamp_of(message: Any) -> int:
    """Nanoseconds of a message's header."""
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
