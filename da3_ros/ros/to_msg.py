"""Estimates to ROS messages: da3_ros.egress with the generated message classes."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from geometry_msgs.msg import Transform

from da3_ros.egress.estimates import CLOUD, IMAGE
from da3_ros.egress.messages import MessageBuilder
from da3_ros.ros.compat import tf_transformations
from da3_ros.ros.path_message import PathMessage, PathPose
from da3_ros.ros.pixel_messages import PixelMessage
from da3_ros.ros.small_messages import message_class, plain, sending_class


def to_array(values: np.ndarray) -> array:
    """``values`` (n,) as the array type that message fields take without looking at each element."""
    data = array({"uint8": "B", "float64": "d"}[values.dtype.name])
    if values.size:
        data.frombytes(values.data.cast("B"))
    return data


_POINT_FIELD = "sensor_msgs/msg/PointField"  # part of a PixelMessage, which keeps what the middleware made of it
_OURS: dict[str, Callable[..., Any]] = {
    **{name: partial(PixelMessage, message_class(name)) for name in (IMAGE, CLOUD)},
    _POINT_FIELD: message_class(_POINT_FIELD),
    "geometry_msgs/msg/PoseStamped": PathPose,
    "nav_msgs/msg/Path": PathMessage,
}


@cache
def _class_for_sending(name: str) -> Any:
    return _OURS.get(name) or sending_class()(name)


def _data_for_sending(values: np.ndarray) -> Any:
    return np.ascontiguousarray(values) if values.dtype == np.uint8 or plain() else to_array(values)


build = MessageBuilder(message_class, to_array)
# For ``publishers``: images and clouds are PixelMessages, poses PathPoses and paths PathMessages, and all others those
# of ``small_messages``.
build_for_sending = MessageBuilder(_class_for_sending, _data_for_sending)
to_transform = build.transform


def from_transform(transform: Transform) -> np.ndarray:
    """(4, 4) float64 matrix of a Transform message."""
    rotation, translation = transform.rotation, transform.translation
    T = tf_transformations.quaternion_matrix([rotation.x, rotation.y, rotation.z, rotation.w])
    T[:3, 3] = translation.x, translation.y, translation.z
    return T
