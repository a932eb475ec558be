"""One CameraInfo subscription for each camera that has a calibration topic, taken apart from rclpy's executor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from da3_ros.config import Config
from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import FrameError, UnavailableError
from da3_ros.ingest.calibration import calibration_from_info
from da3_ros.ros.intake import Intake, unpacked
from da3_ros.ros.qos import subscriber
from da3_ros.ros.rcl import Taken
from da3_ros.ros.stamped import STAMP_END


class CameraInfos:
    """The newest CameraInfo of each camera. In the thread of ``intake``, ``arrived`` is told of the camera, and
    ``dropped`` of what is no CameraInfo."""

    def __init__(
        self,
        node: Node,
        config: Config,
        intake: Intake,
        arrived: Callable[[str], None],
        dropped: Callable[[FrameError], None],
    ):
        self._node = node
        self._config = config
        self._intake = intake
        self._arrived = arrived
        self._dropped = dropped
        self._lock = threading.Lock()
        self._newest: dict[str, CameraInfo] = {}
        self._bytes: dict[str, bytes] = {}  # of the newest one, behind its stamp
        self._subscriptions: dict[str, Any] = {}

    def subscribe(self, camera: str) -> None:
        """Listen to ``camera`` if it has a calibration topic. Raises ConfigError for topics and QoS overrides that
        cannot be used."""
        topic = self._config.camera_info_topic(camera)
        if topic is not None:
            filter_ = subscriber(self._node, CameraInfo, topic, raw=True, callback_group=self._intake.held)
            self._subscriptions[camera] = filter_.sub
            self._intake.add(filter_.sub, partial(self._keep, camera))

    def subscription(self, camera: str) -> Any | None:
        """The rclpy subscription; None for a camera without calibration."""
        return self._subscriptions.get(camera)

    def newest(self, camera: str) -> CameraInfo | None:
        """The calibration of ``camera`` as it was sent last; None before the first. Callable from any thread.

        Its stamp is that of the first message with this content.
        """
        with self._lock:
            return self._newest.get(camera)

    def close(self) -> None:
        """Unsubscribe; to be called after the intake is closed."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()

    def _keep(self, camera: str, taken: Taken) -> None:
        # Drivers send the same calibration with every image, and unpacking it takes longer than everything else here.
        content = taken.data[STAMP_END:].tobytes()
        if content != self._bytes.get(camera):
            try:
                message = unpacked(taken, self._subscriptions[camera])
            except ValueError as error:
                self._dropped(FrameError(camera, "decode", str(error)))
                return
            with self._lock:
                self._newest[camera] = message
            self._bytes[camera] = content
        self._arrived(camera)


def await_calibrations(node: Node, config: Config, timeout_s: float) -> dict[str, CameraCalibration]:
    """The calibration of every camera, as soon as all have sent their CameraInfo. Blocks, and needs no executor.

    Raises UnavailableError where a camera has none or sends none within ``timeout_s``, FrameError for a CameraInfo
    that cannot be used, ConfigError for topics and QoS overrides that cannot be used.
    """
    without = [camera for camera in config.cameras if config.camera_info_topic(camera) is None]
    if without:
        raise UnavailableError(f"no CameraInfo topic is set for {', '.join(without)}")
    came, failures = threading.Condition(), list[BaseException]()

    def arrived(camera: str) -> None:
        with came:
            came.notify()

    def failed(error: BaseException) -> None:
        with came:
            failures.append(error)
            came.notify()

    intake = Intake(node, failed)
    infos = CameraInfos(node, config, intake, arrived, failed)
    try:
        for camera in config.cameras:
            infos.subscribe(camera)
        intake.start()
        with came:
            came.wait_for(lambda: failures or all(map(infos.newest, config.cameras)), timeout_s)
    finally:
        intake.close()
        infos.close()
    if failures:
        raise failures[0]
    newest = {camera: infos.newest(camera) for camera in config.cameras}
    silent = [camera for camera, info in newest.items() if info is None]
    if silent:
        raise UnavailableError(f"no CameraInfo of {', '.join(silent)} within {timeout_s:g} s")
    return {
        camera: calibration_from_info(info, camera, config.camera_config(camera).rectified)
        for camera, info in newest.items()
    }
