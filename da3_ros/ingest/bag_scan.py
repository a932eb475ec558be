"""Recordings read record by record from the front, without their index: what is left of a damaged or cut-off file.

Every scan yields each topic before its first message, and tells ``lost`` in a sentence what it could not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

Lost = Callable[[str], None]


@dataclass(frozen=True)
class StoredTopic:
    """A topic as it is in one file. ``type`` has its ROS 2 name (sensor_msgs/msg/Image) in ROS 1 bags too."""

    name: str
    type: str
    definition: MessageDefinition
    ros1: bool = False
    digest: str = ""
    messages: int = 0


@dataclass(frozen=True)
class RawMessage:
    """A message as it was stored: ``data`` is serialized, ``receive_ns`` when it was recorded."""

    topic: str
    receive_ns: int
    data: bytes


NO_DEFINITION = MessageDefinition(MessageDefinitionFormat.NONE, "")
_FORMATS = {"ros2msg": MessageDefinitionFormat.MSG, "ros2idl": MessageDefinitionFormat.IDL}
Scan = Callable[[Lost], Iterator[StoredTopic | RawMessage]]


def definition(encoding: str, text: str) -> MessageDefinition:
    """A message definition as rosbag2 stores it; none for an encoding that is not ROS's."""
    return MessageDefinition(_FORMATS[encoding], text) if encoding in _FORMATS and text else NO_DEFINITION
