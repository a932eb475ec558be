"""Transforms: the rig's extrinsics in, the robot's and the cameras' estimated poses out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.time import Time

from da3_ros.config import Config
from da3_ros.datatypes import Estimate, FrameSet
from da3_ros.egress.estimates import EstimateMessages, shared_frames
from da3_ros.errors import FrameError, InputError
from da3_ros.ingest.odometry import BaseOdometry, attach_odometry
from da3_ros.ingest.pose_history import PoseHistory
from da3_ros.ros import rcl, to_msg
from da3_ros.ros.compat.tf2_ros import (
    Buffer,
    StaticTransformBroadcaster,
    TransformBroadcaster,
    TransformException,
    TransformListener,
)
from da3_ros.ros.intake import Intake
from da3_ros.ros.small_messages import serialize

_ODOMETRY_KEPT = 2000  # poses of scale.odometry_topic


class Rig:
    """T_base_cam of each camera from /tf and /tf_static, as far as it is known; never a guess. Thread-safe.

    ``intake`` takes the transforms from the topics, and is to be closed first; ``refused`` is told of what are none.

    A camera whose transform is missing, or whose frame id another camera has too, is not in the rig, and
    ``problems`` says why.
    """

    def __init__(self, node: Node, config: Config, intake: Intake, refused: Callable[[str], None]):
        self._base = config.frames.base
        self._needed = config.model.has_poses
        self.buffer = Buffer()
        self._listener = TransformListener(self.buffer, node)
        intake.take_over(self._listener.tf_sub, self._listener.callback, refused)
        intake.take_over(self._listener.tf_static_sub, self._listener.static_callback, refused)
        self._lock = threading.Lock()
        self._known: dict[str, np.ndarray] = {}
        self._problems: dict[str, str] = {}

    def update(self, frame_ids: Mapping[str, str]) -> dict[str, np.ndarray] | None:
        """Look the transforms up anew; the whole rig if it changed since the last call, else None.

        ``frame_ids``: camera -> optical frame id of the frames at hand; cameras that are not in it keep what is
        known of them. The newest transforms are used: a rig is taken to be rigid.
        """
        with self._lock:
            known = {camera: T for camera, T in self._known.items() if camera not in frame_ids}
            problems = {camera: text for camera, text in self._problems.items() if camera not in frame_ids}
        shared = shared_frames(frame_ids)
        for camera, frame_id in frame_ids.items():
            found = self._look_up(camera, frame_id, shared)
            if isinstance(found, str):
                problems[camera] = found
            else:
                known[camera] = found
        with self._lock:
            same = known.keys() == self._known.keys() and all(
                np.array_equal(T, self._known[camera]) for camera, T in known.items()
            )
            self._known, self._problems = known, problems
        return None if same else dict(known)

    def problems(self) -> dict[str, str]:
        """Camera -> why its place on the robot is not known; empty for networks that have no use for it."""
        with self._lock:
            return dict(self._problems) if self._needed else {}

    def forget(self) -> None:
        """The next ``update`` reports the rig even if it did not change."""
        with self._lock:
            self._known, self._problems = {}, {}

    def clear(self) -> None:
        """Forget the transforms that are not static, as after a clock jump."""
        self.buffer.clear()

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()

    def _look_up(self, camera: str, frame_id: str, shared: Mapping[str, tuple[str, ...]]) -> np.ndarray | str:
        if not frame_id:
            return f"its images have no frame_id: set it in the driver or with camera.{camera}.frame_id"
        if frame_id in shared:
            return (
                f"cameras {' and '.join(shared[frame_id])} have the same frame_id '{frame_id}': give each its own, "
                f"in the driver or with camera.{camera}.frame_id"
            )
        try:
            found = self.buffer.lookup_transform(self._base, frame_id, Time())
        except TransformException as error:
            return (
                f"no transform {self._base} -> {frame_id} ({error}): publish it on /tf_static, or name the robot's "
                "frame in frames.base"
            )
        return to_msg.from_transform(found.transform)


class RobotOdometry:
    """Puts the robot's own odometry, frames.odom -> frames.base in ``buffer`` or scale.odometry_topic, onto frames.

    It arrives later than images: the calling thread waits for it, up to sync.timeout_s for a set. Between two
    poses it is interpolated; beyond the newest one nothing is made up, and the frame is dropped; or, where odometry
    is only a source of scale, goes on without, and the next set waits for it no longer. ``refused`` is told of each
    message that cannot be used. ``intake`` takes the messages; to be closed first.
    """

    def __init__(
        self,
        node: Node,
        buffer: Buffer,
        config: Config,
        dropped: Callable[[FrameError], None],
        refused: Callable[[str], None],
        intake: Intake,
    ):
        self._node = node
        self._buffer = buffer
        self._frames = config.frames
        self._wait_s = config.sync.timeout_s
        self._dropped, self._refused = dropped, refused
        self._required = config.model.pose_conditioning == "odometry"
        self._comes = self._required
        self._poses, self._arrived = PoseHistory(_ODOMETRY_KEPT), threading.Condition()
        topic = config.scale.odometry_topic
        self._of_base = BaseOdometry(topic, config.frames, self._static)
        self._subscription = None
        if topic and not self._required:
            self._subscription = node.create_subscription(Odometry, topic, self._take, qos_profile_sensor_data)
            intake.take_over(self._subscription, self._take, refused)

    def close(self) -> None:
        """Stop listening."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def clear(self) -> None:
        """Forget what was received, as after a clock jump."""
        with self._arrived:
            self._poses = PoseHistory(_ODOMETRY_KEPT)

    def attach(self, frame_set: FrameSet) -> FrameSet | None:
        """``frame_set`` with the robot's pose at each frame's stamp; None when no frame is left."""
        deadline = time.monotonic() + (self._wait_s if self._comes else 0.0)
        look_up = self._look_up if self._subscription is None else self._received
        found = attach_odometry(
            frame_set, self._frames, lambda stamp_ns: look_up(stamp_ns, deadline), self._dropped, self._required
        )
        self._comes = self._required or any(frame.T_odom_base is not None for frame in (found or frame_set).frames)
        return found

    def _take(self, message: Odometry) -> None:
        try:
            pose = self._of_base.pose(message)
        except InputError as error:
            self._refused(str(error))
            return
        with self._arrived:
            self._poses.add(*pose)
            self._arrived.notify_all()

    def _static(self, target: str, source: str) -> np.ndarray | None:
        try:
            if self._buffer.get_latest_common_time(target, source).nanoseconds:  # a link of the chain moves
                return None
            return to_msg.from_transform(self._buffer.lookup_transform(target, source, Time()).transform)
        except TransformException:
            return None

    def _received(self, stamp_ns: int, deadline: float) -> np.ndarray | str:
        with self._arrived:
            while True:
                found = self._poses.at(stamp_ns)
                left = deadline - time.monotonic()
                if found is not None or left <= 0 or (len(self._poses) and stamp_ns < self._poses.span_ns[0]):
                    return "not received" if found is None else found
                self._arrived.wait(left)

    def _look_up(self, stamp_ns: int, deadline: float) -> np.ndarray | str:
        left = Duration(seconds=max(0.0, deadline - time.monotonic()))
        try:
            found = self._buffer.lookup_transform(
                self._frames.odom, self._frames.base, Time(nanoseconds=stamp_ns), timeout=left
            )
        except TransformException as error:
            return str(error)
        return to_msg.from_transform(found.transform)


class TfOutput:
    """Broadcasts odom -> base, odom -> <camera frame>_estimated, and map -> odom (REP 105).

    map -> odom is the identity until a loop is closed; latched, and sent anew whenever it changes. All of it
    is off with frames.publish_tf false, as when the robot's own localisation publishes these transforms, and with a
    network that predicts no poses.
    """

    def __init__(self, node: Node, config: Config):
        self._node = node
        self._moving = EstimateMessages(to_msg.build_for_sending, config)
        self._static = EstimateMessages(to_msg.build, config)  # for the broadcaster, which keeps and sends them
        self._wanted = config.frames.publish_tf and config.model.has_poses
        self._broadcasters: tuple[TransformBroadcaster, StaticTransformBroadcaster] | None = None

    def announce(self) -> None:
        """Start broadcasting; sends map -> odom."""
        if not self._wanted or self._broadcasters is not None:
            return
        moving, static = TransformBroadcaster(self._node), StaticTransformBroadcaster(self._node)
        now_ns = self._node.get_clock().now().nanoseconds
        static.sendTransform(self._static.static_transforms(now_ns))
        self._broadcasters = moving, static

    def close(self) -> None:
        """Stop broadcasting; map -> odom is no longer given to those who join later."""
        for broadcaster in self._broadcasters or ():
            self._node.destroy_publisher(broadcaster.pub_tf)
        self._broadcasters = None

    def publish(self, estimate: Estimate) -> None:
        """Broadcast the poses of the newest set, and map -> odom where that has changed."""
        if self._broadcasters is None:
            return
        corrected = self._static.correction(estimate)
        if corrected:
            self._broadcasters[1].sendTransform(corrected)
        transforms = self._moving.transforms(estimate)
        if transforms:
            # Not sendTransform: clouds are being sent meanwhile.
            rcl.publish(self._broadcasters[0].pub_tf, serialize(to_msg.build_for_sending.transforms(transforms)))
