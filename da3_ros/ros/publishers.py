"""The topics that carry estimates: which exist, who listens to them, and one estimate sent to all that are heard."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher

from da3_ros.config import Config
from da3_ros.datatypes import Estimate, OutputRequest
from da3_ros.egress.estimates import (
    CLOUD,
    IMAGE,
    MAP_POINTS,
    OF_WINDOW,
    EstimateMessages,
    output_request,
    output_topics,
)
from da3_ros.ros import rcl, to_msg
from da3_ros.ros.occasional import Occasional
from da3_ros.ros.path_message import PathMessage
from da3_ros.ros.pixel_messages import Memory, PixelMessage
from da3_ros.ros.qos import clear_topic_errors, latched_profile, overridable, publication_profile
from da3_ros.ros.small_messages import get_ready, message_class, serialize

# Images and clouds are serialized and sent side by side, without the interpreter's lock; on few cores, which the
# network needs too, one after the other.
_SENDERS = max(1, min(4, len(os.sched_getaffinity(0)) // 2))


class EstimatePublishers:
    """Lifecycle publishers of everything that ``config.publish`` asks for, under namespace-relative names.

    ``request`` and ``publish`` may be called from any thread. Raises ConfigError for unusable QoS overrides.
    """

    def __init__(self, node: LifecycleNode, config: Config):
        self._node = node
        self._config = config
        self._publishers: dict[str, LifecyclePublisher] = {}
        self._messages = EstimateMessages(to_msg.build_for_sending, config)
        self._large = {topic for topic, kind in output_topics(config).items() if kind in (IMAGE, CLOUD)}
        self._memory: dict[str, Memory] = defaultdict(Memory)
        self._senders = ThreadPoolExecutor(_SENDERS, "da3-send")
        events = Occasional()
        try:
            get_ready()
            for topic, kind in output_topics(config).items():
                views = config.window.sets * len(config.cameras) if f"/{OF_WINDOW}" in topic else 1
                profile = latched_profile() if topic == MAP_POINTS else publication_profile(views)
                with clear_topic_errors(node, topic):
                    self._publishers[topic] = node.create_lifecycle_publisher(
                        message_class(kind),
                        topic,
                        profile,
                        callback_group=events,
                        qos_overriding_options=overridable(),
                    )
            if not config.model.has_poses:
                node.get_logger().info(
                    f"{config.model.variant} sees each view alone and predicts no poses: there are no topics points, "
                    "window, odometry, path and <c>/confidence, and no TF"
                )
        except BaseException:
            self.close()
            raise

    def request(self) -> OutputRequest:
        """What somebody listens to at this moment; the rest need not be computed."""
        return output_request(self._config.cameras, self._heard)

    def publish(self, estimate: Estimate, description: Mapping[str, Any], meanwhile: Callable[[], None]) -> None:
        """Send ``estimate`` on every topic that has a listener; ``description`` is ``Pipeline.description``.

        ``meanwhile`` is called while images and clouds are on their way.
        """
        makers = [(topic, make) for topic, make in self._messages.of(estimate, description) if self._heard(topic)]
        # What has pixels is on its way while the rest, which takes Python's time and not the middleware's, is made.
        # Cameras side by side, the topics of each one after the other: every change of threads may have to wait for
        # the interpreter's lock. What is of all cameras is the largest, and would be left over in the end.
        parts: dict[str, list[tuple[str, Callable[[], PixelMessage]]]] = defaultdict(list)
        for topic, make_message in makers:
            if topic in self._large:
                parts[topic.partition("/")[0]].append((topic, make_message))
        of_all_first = sorted(parts, key=lambda name: name in self._config.cameras)
        sent = [self._senders.submit(self._send_all, parts[name]) for name in of_all_first]
        meanwhile()
        for topic, make_message in makers:
            if topic not in self._large:
                self._send(topic, make_message())
        for future in sent:
            future.result()

    def listened(self) -> list[str]:
        """Full names of the topics that somebody listens to, as this node sees it."""
        heard = [publisher for publisher in self._publishers.values() if publisher.get_subscription_count() > 0]
        return sorted(publisher.topic_name for publisher in heard)

    def forget_path(self) -> None:
        """Start the path anew, as after a reset. To be called from the thread that publishes."""
        self._messages.forget_path()

    def close(self) -> None:
        """Destroy all publishers."""
        self._senders.shutdown()
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def _send_all(self, makers: Sequence[tuple[str, Callable[[], PixelMessage]]]) -> None:
        for topic, make_message in makers:
            self._send(topic, make_message())

    def _send(self, topic: str, message: Any) -> None:
        publisher = self._publishers[topic]
        if not publisher.is_activated:
            return
        if isinstance(message, PixelMessage | PathMessage):
            data = message.serialize(self._memory[topic])
        else:
            data = serialize(message)
        rcl.publish(publisher, data)

    def _heard(self, topic: str) -> bool:
        publisher = self._publishers.get(topic)
        return publisher is not None and publisher.get_subscription_count() > 0
