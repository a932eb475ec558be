"""The cameras while the node is active: subscriptions, synchronizer, and answers to what diagnostics ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from rclpy.node import Node

from da3_ros.config import Config
from da3_ros.errors import FrameError
from da3_ros.ingest.sync import ClockJump
from da3_ros.ingest.sync_statistics import CameraStatistics
from da3_ros.ros.engine import ImageSet
from da3_ros.ros.findings import RECENT_S
from da3_ros.ros.silence import describe_connection, explain_silence
from da3_ros.ros.stats import RecentCounts, Stats
from da3_ros.ros.subscriptions import CameraSubscriptions
from da3_ros.ros.sync_filter import SynchronizerFilter
from da3_ros.ros.tf import Rig

# One report asks for the synchronizer's figures several times for each camera, which take it milliseconds to make.
_FRESH_S = 0.05


class ActiveCameras:
    """Subscribes to every camera and passes sets of images to ``submit`` from ``start`` on; is ``findings.Network``.

    ``on_jump``, ``dropped`` and ``failed``: see SynchronizerFilter and CameraSubscriptions. Raises ConfigError for
    topics and QoS overrides that cannot be used.
    """

    def __init__(
        self,
        node: Node,
        config: Config,
        stats: Stats,
        rig: Rig,
        submit: Callable[[ImageSet], None],
        on_jump: Callable[[ClockJump], None],
        dropped: Callable[[FrameError], None],
        failed: Callable[[BaseException], None],
    ):
        self._node = node
        self._rig = rig
        self._recent = {camera: RecentCounts(RECENT_S) for camera in config.cameras}
        self._statistics: Mapping[str, CameraStatistics] = {}
        self._statistics_until_s = 0.0
        self.since_s = time.monotonic()
        self.subscriptions = CameraSubscriptions(node, config, stats, dropped, failed)
        self.synchronizer = SynchronizerFilter(
            node, self.subscriptions.images, config.sync, on_jump=on_jump, dropped=dropped
        )
        self.synchronizer.registerCallback(submit)

    def start(self) -> None:
        """Let images in."""
        self.subscriptions.start()

    def close(self) -> None:
        """Unsubscribe."""
        self.synchronizer.close()
        self.subscriptions.close()

    def explain_images(self, camera: str) -> str:
        """Why no image of ``camera`` arrives."""
        subscription = self.subscriptions.image_subscription(camera)
        return explain_silence(self._node, subscription, f"camera.{camera}.image_topic")

    def explain_info(self, camera: str) -> str:
        """Why no CameraInfo of ``camera`` arrives."""
        subscription = self.subscriptions.info_subscription(camera)
        return explain_silence(self._node, subscription, f"camera.{camera}.camera_info_topic")

    def publishers(self, camera: str) -> str:
        """Who publishes images of ``camera``, with the QoS that they offer, and what is requested."""
        return describe_connection(self._node, self.subscriptions.image_subscription(camera))

    def sync_statistics(self) -> Mapping[str, CameraStatistics]:
        """The synchronizer's view of each camera, as of at most 50 ms ago."""
        now_s = time.monotonic()
        if now_s >= self._statistics_until_s:
            self._statistics = self.synchronizer.statistics()
            self._statistics_until_s = now_s + _FRESH_S
        return self._statistics

    def recent_drops(self, camera: str) -> Mapping[str, int]:
        """Reason -> images of ``camera`` that the synchronizer dropped lately."""
        dropped = self.sync_statistics()[camera].dropped
        return self._recent[camera].update(dropped, time.monotonic())

    def rig_problems(self) -> Mapping[str, str]:
        """Camera -> why its place on the robot is not known."""
        return self._rig.problems()
