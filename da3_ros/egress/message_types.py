"""The messages of the rosbags library: plain dataclasses that Python itself serializes, with ROS 2 or without."""

from __future__ import annotations

from functools import cache

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from da3_ros.egress.messages import MessageBuilder
from da3_ros.share import share_folder


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
