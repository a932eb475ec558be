"""The topics that carry estimates: which exist, who listens to them, and one estimate sent to all that are heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from da3_ros.config import Config
from da3_ros.datatypes import CameraOutput, Estimate, OutputRequest
from da3_ros.msg import WindowEstimate
from da3_ros.ros import to_msg
from da3_ros.ros.qos import clear_topic_errors, overridable, publication_profile


class EstimatePublishers:
    """Lifecycle publishers of everything that ``config.publish`` asks for, under namespace-relative names.

    ``request`` and ``publish`` may be called from any thread. Raises ConfigError for unusable QoS overrides.
    """

    def __init__(self, node: LifecycleNode, config: Config):
        self._node = node
        self._config = config
        self._publishers: dict[str, LifecyclePublisher] = {}
        self._poses: deque[PoseStamped] = deque(maxlen=config.publish.path_length)
        wanted = config.publish
        try:
            for camera in config.cameras:
                self._add(wanted.depth, Image, f"{camera}/depth/image_rect")
                self._add(wanted.camera_info, CameraInfo, f"{camera}/depth/camera_info")
                self._add(wanted.sky and config.model.has_sky, Image, f"{camera}/sky")
                self._add(wanted.points, PointCloud2, f"{camera}/points")
            if config.model.has_poses:
                for camera in config.cameras:
                    self._add(wanted.confidence, Image, f"{camera}/confidence")
                self._add(wanted.merged_points, PointCloud2, "points")
                self._add(wanted.window, WindowEstimate, "window")
                self._add(wanted.odometry, Odometry, "odometry")
                self._add(wanted.path, Path, "path")
            else:
                node.get_logger().info(
                    f"{config.model.variant} sees each view alone and predicts no poses: there are no topics points, "
                    "window, odometry, path and <c>/confidence, and no TF"
                )
        except BaseException:
            self.close()
            raise

    def request(self) -> OutputRequest:
        """What somebody listens to at this moment; the rest need not be computed."""

        def heard(*names: str) -> frozenset[str]:
            return frozenset(
                camera for camera in self._config.cameras if any(self._heard(f"{camera}/{name}") for name in names)
            )

        return OutputRequest(
            # The depth's camera_info is made with the depth, so that the two always agree.
            depth=heard("depth/image_rect", "depth/camera_info"),
            confidence=heard("confidence"),
            points=heard("points"),
            sky=heard("sky"),
            merged_points=self._heard("points"),
        )

    def publish(self, estimate: Estimate, description: Mapping[str, Any]) -> None:
        """Send ``estimate`` on every topic that has a listener; ``description`` is ``Pipeline.description``."""
        odom = self._config.frames.odom
        for output in estimate.outputs:
            self._publish_camera(output)
        if estimate.merged_points is not None:
            cloud = estimate.merged_points
            self._send("points", lambda: to_msg.to_cloud(cloud, estimate.stamp_ns))
        if estimate.has_poses:
            self._send("window", lambda: to_msg.to_window(estimate, odom, description))
        tracked = tracked_pose(estimate, self._config)
        if tracked is not None:
            T_odom_child, stamp_ns, child = tracked
            self._poses.append(to_msg.to_pose_stamped(T_odom_child, stamp_ns, odom))
            self._send("odometry", lambda: to_msg.to_odometry(T_odom_child, stamp_ns, odom, child))
            self._send("path", lambda: to_msg.to_path(self._poses, stamp_ns, odom))

    def listened(self) -> list[str]:
        """Full names of the topics that somebody listens to, as this node sees it."""
        heard = [publisher for publisher in self._publishers.values() if publisher.get_subscription_count() > 0]
        return sorted(publisher.topic_name for publisher in heard)

    def forget_path(self) -> None:
        """Start the path anew, as after a reset. To be called from the thread that publishes."""
        self._poses.clear()

    def close(self) -> None:
        """Destroy all publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers.clear()

    def _add(self, wanted: bool, message_type: type, topic: str) -> None:
        if wanted:
            with clear_topic_errors(self._node, topic):
                self._publishers[topic] = self._node.create_lifecycle_publisher(
                    message_type, topic, publication_profile(), qos_overriding_options=overridable()
                )

    def _heard(self, topic: str) -> bool:
        publisher = self._publishers.get(topic)
        return publisher is not None and publisher.get_subscription_count() > 0

    def _send(self, topic: str, make_message: Callable[[], Any]) -> None:
        if self._heard(topic):
            self._publishers[topic].publish(make_message())

    def _publish_camera(self, output: CameraOutput) -> None:
        name, stamp_ns, frame_id = output.camera, output.stamp_ns, output.frame_id
        depth, confidence, sky, points = output.depth, output.confidence, output.sky, output.points
        if depth is not None:
            self._send(f"{name}/depth/image_rect", lambda: to_msg.to_image(depth, stamp_ns, frame_id))
            self._send(f"{name}/depth/camera_info", lambda: to_msg.to_camera_info(output))
        if confidence is not None:
            self._send(f"{name}/confidence", lambda: to_msg.to_image(confidence, stamp_ns, frame_id))
        if sky is not None:
            self._send(f"{name}/sky", lambda: to_msg.to_image(sky, stamp_ns, frame_id))
        if points is not None:
            self._send(f"{name}/points", lambda: to_msg.to_cloud(points, stamp_ns))


def tracked_pose(estimate: Estimate, config: Config) -> tuple[np.ndarray, int, str] | None:
    """T_odom_child (4, 4), stamp and child frame of the one pose that ``odometry`` and ``path`` follow.

    The base where the rig is known, else the first camera of ``cameras``; None in a step without that camera, since
    another one's pose would be a jump, and in one without poses.
    """
    if estimate.T_odom_base is not None:
        return estimate.T_odom_base, estimate.stamp_ns, config.frames.base
    for view in estimate.views:
        if view.newest and view.camera == config.cameras[0] and view.T_odom_cam is not None:
            return view.T_odom_cam, view.stamp_ns, view.frame_id
    return None
