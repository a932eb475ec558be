"""One image subscription and one CameraInfo subscription for each camera. Callbacks only note and pass on.

Raw images and CameraInfo do not go through rclpy's executor and its own way to take a message, which cost several times
what the middleware needs; compressed images do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from da3_ros.config import Config
from da3_ros.errors import FrameError
from da3_ros.ros.compat.message_filters import SimpleFilter, Subscriber
from da3_ros.ros.intake import Intake
from da3_ros.ros.qos import clear_topic_errors, overridable, subscription_profile
from da3_ros.ros.rcl import Taken
from da3_ros.ros.stamped import STAMP_END
from da3_ros.ros.stats import Stats
from da3_ros.ros.taken_image import TakenImage


class CameraSubscriptions:
    """The image filters by camera, and the newest CameraInfo of each. Raises ConfigError for bad QoS overrides.

    Nothing comes before ``start``. ``dropped`` is told of messages that are no images, ``failed`` of what a callback
    raises.
    """

    def __init__(
        self,
        node: Node,
        config: Config,
        stats: Stats,
        dropped: Callable[[FrameError], None],
        failed: Callable[[BaseException], None],
    ):
        self._node = node
        self._stats = stats
        self._dropped = dropped
        self._intake = Intake(node, failed)
        self._lock = threading.Lock()
        self._infos: dict[str, CameraInfo] = {}
        self._info_bytes: dict[str, bytes] = {}  # of the newest one, behind its stamp
        self._first: dict[str, TakenImage | None] = {}  # of a camera, while it waits for the first CameraInfo
        self._images: dict[str, Subscriber] = {}
        self._info_subscribers: dict[str, Subscriber] = {}
        try:
            for camera in config.cameras:
                self._subscribe(camera, config)
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Let messages in."""
        self._intake.start()

    @property
    def images(self) -> Mapping[str, SimpleFilter]:
        """Filters whose output is each image message, by camera."""
        return self._images

    def image_subscription(self, camera: str) -> Any:
        """The rclpy subscription to the images of ``camera``."""
        return self._images[camera].sub

    def info_subscription(self, camera: str) -> Any | None:
        """The rclpy subscription to CameraInfo; None for a camera without calibration."""
        subscriber = self._info_subscribers.get(camera)
        return None if subscriber is None else subscriber.sub

    def info(self, camera: str) -> CameraInfo | None:
        """The calibration of ``camera`` as it was sent last; None before the first. Callable from any thread.

        Its stamp is that of the first message with this content.
        """
        with self._lock:
            return self._infos.get(camera)

    def close(self) -> None:
        """Unsubscribe from everything."""
        self._intake.close()
        for subscriber in (*self._images.values(), *self._info_subscribers.values()):
            self._node.destroy_subscription(subscriber.sub)
        self._images.clear()
        self._info_subscribers.clear()

    def _subscribe(self, camera: str, config: Config) -> None:
        compressed = config.camera_config(camera).transport == "compressed"
        topic = config.image_topic(camera)
        if compressed:
            images = self._make(CompressedImage, topic)
        else:
            images = self._make(Image, topic, raw=True, callback_group=self._intake.held)
            self._intake.add(images.sub, partial(self._pass_on, camera, images))
        images.registerCallback(self._note_image, camera)
        self._images[camera] = images
        info_topic = config.camera_info_topic(camera)
        if info_topic is not None:
            infos = self._make(CameraInfo, info_topic, raw=True, callback_group=self._intake.held)
            self._intake.add(infos.sub, partial(self._keep_info, camera))
            self._info_subscribers[camera] = infos

    def _make(self, message_type: type, topic: str, **options: Any) -> Subscriber:
        with clear_topic_errors(self._node, topic):
            return Subscriber(
                self._node,
                message_type,
                topic,
                qos_profile=subscription_profile(),
                qos_overriding_options=overridable(),
                **options,
            )

    def _pass_on(self, camera: str, images: Subscriber, taken: Taken) -> None:
        try:
            message = TakenImage(taken.data)
        except ValueError as error:
            self._dropped(FrameError(camera, "decode", f"what came on {images.topic} is no image ({error})"))
            return
        if camera in self._info_subscribers and self.info(camera) is None:
            # Topics overtake each other: the first image is kept until its CameraInfo is there, or the next image.
            if camera not in self._first:
                self._first[camera] = message
                return
            self._release_first(camera)
        images.signalMessage(message)

    def _release_first(self, camera: str) -> None:
        first = self._first.get(camera)
        if first is not None:
            self._first[camera] = None
            self._images[camera].signalMessage(first)

    def _note_image(self, message: TakenImage | CompressedImage, camera: str) -> None:
        header = message.header
        stamp_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        self._stats.image_arrived(camera, stamp_ns, header.frame_id, time.monotonic())

    def _keep_info(self, camera: str, taken: Taken) -> None:
        # Drivers send the same calibration with every image, and unpacking it takes longer than everything else here.
        content = taken.data[STAMP_END:].tobytes()
        if content != self._info_bytes.get(camera):
            message = deserialize_message(taken.data.tobytes(), CameraInfo)
            with self._lock:
                self._infos[camera] = message
            self._info_bytes[camera] = content
        self._stats.info_arrived(camera)
        self._release_first(camera)
