"""One image subscription and one CameraInfo subscription for each camera. Callbacks only note and pass on.

Raw images and CameraInfo do not go through rclpy's executor and its own way to take a message, which cost several times
what the middleware needs; compressed images do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from da3_ros.config import Config
from da3_ros.errors import FrameError
from da3_ros.ros.camera_infos import CameraInfos
from da3_ros.ros.compat.message_filters import SimpleFilter, Subscriber
from da3_ros.ros.intake import Intake
from da3_ros.ros.qos import subscriber
from da3_ros.ros.rcl import Taken
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
        self._infos = CameraInfos(node, config, self._intake, self._note_info, dropped)
        self._first: dict[str, TakenImage | None] = {}  # of a camera, while it waits for the first CameraInfo
        self._images: dict[str, Subscriber] = {}
        try:
            for camera in config.cameras:
                self._subscribe(camera, config)
                self._infos.subscribe(camera)
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
        return self._infos.subscription(camera)

    def info(self, camera: str) -> CameraInfo | None:
        """The calibration of ``camera`` as it was sent last; None before the first. Callable from any thread.

        Its stamp is that of the first message with this content.
        """
        return self._infos.newest(camera)

    def close(self) -> None:
        """Unsubscribe from everything."""
        self._intake.close()
        for images in self._images.values():
            self._node.destroy_subscription(images.sub)
        self._images.clear()
        self._infos.close()

    def _subscribe(self, camera: str, config: Config) -> None:
        compressed = config.camera_config(camera).transport == "compressed"
        topic = config.image_topic(camera)
        if compressed:
            images = subscriber(self._node, CompressedImage, topic)
        else:
            images = subscriber(self._node, Image, topic, raw=True, callback_group=self._intake.held)
            self._intake.add(images.sub, partial(self._pass_on, camera, images))
        images.registerCallback(self._note_image, camera)
        self._images[camera] = images

    def _pass_on(self, camera: str, images: Subscriber, taken: Taken) -> None:
        try:
            message = TakenImage(taken.data)
        except ValueError as error:
            self._dropped(FrameError(camera, "decode", f"what came on {images.topic} is no image ({error})"))
            return
        if self.info_subscription(camera) is not None and self.info(camera) is None:
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

    def _note_info(self, camera: str) -> None:
        self._stats.info_arrived(camera)
        self._release_first(camera)
