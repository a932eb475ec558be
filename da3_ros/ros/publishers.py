"""The topics that carry estimates: which exist, who listens to them, and one estimate sent to all that are heard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecyclePublisher

from da3_ros.config import Config
from da3_ros.datatypes import Estimate, OutputRequest
from da3_ros.egress.estimates import MAP_POINTS, EstimateMessages, output_request, output_topics
from da3_ros.ros import to_msg
from da3_ros.ros.qos import clear_topic_errors, latched_profile, overridable, publication_profile


class EstimatePublishers:
    """Lifecycle publishers of everything that ``config.publish`` asks for, under namespace-relative names.

    ``request`` and ``publish`` may be called from any thread. Raises ConfigError for unusable QoS overrides.
    """

    def __init__(self, node: LifecycleNode, config: Config):
        self._node = node
        self._config = config
        self._publishers: dict[str, LifecyclePublisher] = {}
        self._messages = EstimateMessages(to_msg.build, config)
        try:
            for topic, kind in output_topics(config).items():
                profile = latched_profile() if topic == MAP_POINTS else publication_profile()
                with clear_topic_errors(node, topic):
                    self._publishers[topic] = node.create_lifecycle_publisher(
                        to_msg.message_class(kind), topic, profile, qos_overriding_options=overridable()
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

    def publish(self, estimate: Estimate, description: Mapping[str, Any]) -> None:
        """Send ``estimate`` on every topic that has a listener; ``description`` is ``Pipeline.description``."""
        for topic, make_message in self._messages.of(estimate, description):
            if self._heard(topic):
                self._publishers[topic].publish(make_message())

    def listened(self) -> list[str]:
        """Full names of the topics that somebody listens to, as this node sees it."""
        heard = [publisher for publisher in self._publishers.values() if publisher.get_subscription_count() > 0]
        return sorted(publisher.topic_name for publisher in heard)

    def forget_path(self) -> None:
        """Start the path anew, as after a reset. To be called from the thread that publishes."""
        self._messages.forget_path()

    def close(self) -> None:
        """Destroy all publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def _heard(self, topic: str) -> bool:
        publisher = self._publishers.get(topic)
        return publisher is not None and publisher.get_subscription_count() > 0
