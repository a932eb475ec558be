"""Small messages to their serialized form in Python alone: a fraction of the time that rclpy takes to make and
serialize its own, all of which holds the interpreter's lock (docs/performance.md, "What transport costs").

They are those of recordings (egress.message_types), where these and the installed ones have the same fields in the same
order; else they are the installed ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message
from rosbags.interfaces import Nodetype

from da3_ros.egress.message_types import message_types
from da3_ros.errors import UnavailableError

# All that are sent; one among them that is another would be made of parts of both kinds.
KINDS = (
    "da3_ros/msg/WindowEstimate",
    "nav_msgs/msg/Odometry",
    "nav_msgs/msg/Path",
    "sensor_msgs/msg/CameraInfo",
    "tf2_msgs/msg/TFMessage",
)
_IDL = {"bool": "boolean", "float32": "float", "float64": "double"}  # what rosidl's Python calls these


@cache
def message_class(name: str) -> Any:
    """The generated class of a message type such as ``sensor_msgs/msg/Image``.

    Raises UnavailableError when its package is not installed.
    """
    package, _, kind = name.split("/")
    # da3_ros.msg exists in a source tree without its messages too.
    try:
        return getattr(import_module(f"{package}.msg"), kind)
    except (ImportError, AttributeError) as error:
        raise UnavailableError(f"the message type {name} is not installed here") from error


@cache
def plain() -> bool:
    """Whether small messages are those of recordings."""
    return all(_as_installed(kind) for kind in KINDS)


def get_ready() -> None:
    """Do now what the first message would have to wait for: reading definitions, and making functions of them."""
    if plain():
        for kind in KINDS:
            message_types().get_msgdef(kind)


@cache
def sending_class() -> Callable[[str], Any]:
    """What makes a small message of a type such as ``nav_msgs/msg/Path``, for ``serialize``."""
    return message_types().types.__getitem__ if plain() else message_class


def serialize(message: Any) -> np.ndarray:
    """A message of a ``sending_class``, or of ROS's own classes, as (n,) uint8, for ``rcl.publish``."""
    kind = getattr(message, "__msgtype__", None)
    data = serialize_message(message) if kind is None else message_types().serialize_cdr(message, kind)
    return np.frombuffer(data, np.uint8)


def _as_installed(name: str) -> bool:
    """Whether recordings and the ROS that is installed have the same fields in a message, and in all that it has."""
    fields = message_types().fielddefs[name][1]
    ours = {field: _idl(kind) for field, kind in fields}
    try:
        theirs = message_class(name).get_fields_and_field_types()
    except UnavailableError:
        return False
    parts = {found for _, kind in fields if (found := _part(kind)) is not None}
    return list(ours.items()) == list(theirs.items()) and all(map(_as_installed, parts))


def _idl(kind: Any) -> str:
    """A field's type as rosidl's Python writes it."""
    node, (inner, size) = kind[0], kind[1] if kind[0] is not Nodetype.NAME else (kind[1], 0)
    if node is Nodetype.NAME:
        return inner.replace("/msg/", "/")
    if node is Nodetype.BASE:
        return _IDL.get(inner, inner)
    return f"sequence<{_idl(inner)}>" if node is Nodetype.SEQUENCE else f"{_idl(inner)}[{size}]"


def _part(kind: Any) -> str | None:
    """The message type that a field consists of; None for numbers and text."""
    node, inner = kind
    if node is Nodetype.NAME:
        return inner
    return None if node is Nodetype.BASE else _part(inner[0])
