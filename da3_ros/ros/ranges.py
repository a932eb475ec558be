"""The subscription to ``scale.range_topic``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import CameraInfo

from da3_ros.config import Config
from da3_ros.datatypes import FrameSet
from da3_ros.errors import InputError
from da3_ros.ingest.ranges import RANGE_TYPES, RangeReadings, reading_from_depth, reading_from_range
from da3_ros.ros import to_msg
from da3_ros.ros.compat.tf2_ros import Buffer, TransformException
from da3_ros.ros.small_messages import message_class


class RangeSubscription:
    """Puts what a range finder or a depth camera measures onto frame sets. Bad messages are ``warned`` of."""

    def __init__(self, node: Node, buffer: Buffer, config: Config, warned: Callable[[str], None]):
        self._node, self._buffer, self._base, self._warned = node, buffer, config.frames.base, warned
        self._readings = RangeReadings()
        self._info: CameraInfo | None = None
        kind, topic = config.scale.range_type, config.scale.range_topic
        message_type = message_class(RANGE_TYPES[kind])
        take = self._take_range if kind == "range" else self._take_depth
        self._subscriptions = [node.create_subscription(message_type, topic, take, qos_profile_sensor_data)]
        if kind == "depth":
            self._subscriptions.append(
                node.create_subscription(CameraInfo, config.range_info_topic, self._take_info, qos_profile_sensor_data)
            )

    def attach(self, frame_set: FrameSet) -> FrameSet:
        """``frame_set`` with the nearest reading."""
        return self._readings.attach(frame_set, self._look_up)

    def clear(self) -> None:
        """Forget what was received, as after a clock jump."""
        self._readings.clear()

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _take_range(self, message: Any) -> None:
        self._readings.add(reading_from_range(message))

    def _take_info(self, message: CameraInfo) -> None:
        self._info = message

    def _take_depth(self, message: Any) -> None:
        if self._info is None:
            return
        try:
            self._readings.add(reading_from_depth(message, self._info))
        except InputError as error:
            self._warned(f"scale.range_topic: {error}")

    def _look_up(self, frame_id: str) -> np.ndarray | None:
        try:
            return to_msg.from_transform(self._buffer.lookup_transform(self._base, frame_id, Time()).transform)
        except TransformException as error:
            self._warned(f"scale.range_topic: no transform {self._base} -> {frame_id} ({error}), so it gives no scale")
            return None
