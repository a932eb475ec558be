"""Estimates to ROS messages: da3_ros.egress with the generated message classes."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

import numpy as np
from geometry_msgs.msg import Transform

from da3_ros.egress.estimates import CLOUD, IMAGE
from da3_ros.egress.messages import MessageBuilder
from da3_ros.errors import UnavailableError
from da3_ros.ros.compat import tf_transformations
from da3_ros.ros.path_message import PathMessage, PathPose
from da3_ros.ros.pixel_messages import PixelMessage


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


def to_array(values: np.ndarray) -> array:
    """``values`` (n,) as the array type that message fields take without looking at each element."""
    data = array({"uint8": "B", "float64": "d"}[values.dtype.name])
    if values.size:
        data.frombytes(values.data.cast("B"))
    return data


_SERIALIZED: dict[str, Callable[..., Any]] = {
    **{name: partial(PixelMessage, message_class(name)) for name in (IMAGE, CLOUD)},
    "geometry_msgs/msg/PoseStamped": PathPose,
    "nav_msgs/msg/Path": PathMessage,
}


def _class_for_sending(name: str) -> Any:
    return _SERIALIZED.get(name) or message_class(name)


def _pixel_data(values: np.ndarray) -> Any:
    return values if values.dtype == np.uint8 else to_array(values)


build = MessageBuilder(message_class, to_array)
# The same, but images and clouds are PixelMessages, poses PathPoses and paths PathMessages.
build_for_sending = MessageBuilder(_class_for_sending, _pixel_data)
to_transform = build.transform


def from_transform(transform: Transform) -> np.ndarray:
    """(4, 4) float64 matrix of a Transform message."""
    rotation, translation = transform.rotation, transform.translation
    T = tf_transformations.quaternion_matrix([rotation.x, rotation.y, rotation.z, rotation.w])
    T[:3, 3] = translation.x, translation.y, translation.z
    return T
