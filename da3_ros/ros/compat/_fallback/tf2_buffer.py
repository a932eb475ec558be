"""The tree of coordinate frames over time, and lookups in it."""

from __future__ import annotations

import math
import threading
import time as wall
from typing import Any

from geometry_msgs.msg import TransformStamped
from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.time import Time

from da3_ros.ros.compat._fallback.tf2_errors import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)
from da3_ros.ros.compat._fallback.tf2_links import IDENTITY, MovingLink, Pose, StaticLink, compose, invert

_CACHE = Duration(seconds=10.0)
# Shorter ones point nowhere.
_LEAST_QUATERNION = 1e-9
_NO_WAIT = Duration()
_ALWAYS_NS = 2**63 - 1  # newest common time of static links


class Buffer:
    """Keeps the transforms of the last ``cache_time`` (None: 10 s) and answers lookups; thread safe.

    Where ``node`` is given, a jump of its clock by one second or more backwards, or a change between ROS and
    system time, empties the buffer of everything but static transforms.
    """

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        self._cache_ns = (cache_time or _CACHE).nanoseconds
        self._links: dict[str, StaticLink | MovingLink] = {}  # by child frame
        self._frames: set[str] = set()
        self._changed = threading.Condition()  # owns the three above; notified when a transform comes in
        self._logger = get_logger("tf2_buffer")
        if node is not None:
            threshold = JumpThreshold(min_forward=None, min_backward=Duration(seconds=-1.0), on_clock_change=True)
            self._jump_handle = node.get_clock().create_jump_callback(threshold, post_callback=self._on_jump)

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Add the pose of ``child_frame_id`` in ``header.frame_id`` at its stamp.

        What cannot be used (a frame in itself, an empty name, NaN, a zero quaternion, data older than the cache)
        is left out with a log line that names ``authority``, the sender.
        """
        self._insert(transform, authority, static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Like ``set_transform``, for a pose that holds at all times."""
        self._insert(transform, authority, static=True)

    def clear(self) -> None:
        """Forget all poses but the static ones; frames stay known."""
        with self._changed:
            for link in self._links.values():
                link.clear()

    def lookup_transform(
        self, target_frame: str, source_frame: str, time: Any, timeout: Duration = _NO_WAIT
    ) -> TransformStamped:
        """The transform that maps points of ``source_frame`` into ``target_frame`` (``T_target_source``).

        ``time``: rclpy Time or time message; 0 asks for the newest time that the whole chain has. ``timeout``:
        how long to wait, in wall time, for it to become possible. Raises a TransformException.
        """
        with self._changed:
            self.can_transform(target_frame, source_frame, time, timeout)
            pose, stamp_ns = self._lookup(target_frame, source_frame, _nanoseconds(time))
        message = TransformStamped()
        message.header.frame_id = target_frame
        message.child_frame_id = source_frame
        message.header.stamp = Time(nanoseconds=stamp_ns).to_msg()
        translation, rotation = message.transform.translation, message.transform.rotation
        translation.x, translation.y, translation.z = pose[:3]
        rotation.x, rotation.y, rotation.z, rotation.w = _unit(pose[3:])
        return message

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Any,
        timeout: Duration = _NO_WAIT,
        return_debug_tuple: bool = False,
    ) -> bool | tuple[bool, str]:
        """Whether ``lookup_transform`` would succeed; with ``return_debug_tuple`` also why not."""
        time_ns = _nanoseconds(time)
        deadline = wall.monotonic() + timeout.nanoseconds * 1e-9
        with self._changed:
            while problem := self._problem(target_frame, source_frame, time_ns):
                remaining = deadline - wall.monotonic()
                if remaining <= 0.0:
                    break
                self._changed.wait(remaining)
        return (not problem, problem) if return_debug_tuple else not problem

    def get_latest_common_time(self, target_frame: str, source_frame: str) -> Time:
        """The newest time at which a lookup between the frames succeeds; 0 where all links are static."""
        with self._changed:
            self._check_frames(target_frame, source_frame)
            return Time(nanoseconds=self._latest_common_ns(target_frame, source_frame))

    def _insert(self, transform: TransformStamped, authority: str, static: bool) -> None:
        parent = transform.header.frame_id.removeprefix("/")
        child = transform.child_frame_id.removeprefix("/")
        translation, rotation = transform.transform.translation, transform.transform.rotation
        position = (translation.x, translation.y, translation.z)
        quaternion = (rotation.x, rotation.y, rotation.z, rotation.w)
        if not parent or not child:
            self._reject(authority, f"frame_id '{parent}' or child_frame_id '{child}' is empty")
            return
        if parent == child:
            self._reject(authority, f"frame_id and child_frame_id are both '{child}'")
            return
        if any(map(math.isnan, position)) or not _LEAST_QUATERNION < math.hypot(*quaternion) < math.inf:
            self._reject(authority, f"'{child}' in '{parent}' has a NaN or a zero quaternion")
            return
        pose: Pose = (*position, *_unit(quaternion))
        stamp_ns = _nanoseconds(transform.header.stamp)
        with self._changed:
            link = self._links.get(child)
            if link is None or isinstance(link, StaticLink) != static:
                link = self._links[child] = StaticLink() if static else MovingLink(self._cache_ns)
            self._frames.update((parent, child))
            accepted = link.insert(stamp_ns, parent, pose)
            self._changed.notify_all()
        if not accepted:
            self._reject(authority, f"'{child}' in '{parent}' at {stamp_ns} ns is older than the cache keeps")

    def _reject(self, authority: str, why: str) -> None:
        self._logger.warning(f"ignoring a transform from '{authority}': {why}", throttle_duration_sec=2.5)

    def _on_jump(self, jump: TimeJump) -> None:
        self._logger.warning("the clock jumped back or changed its source: clearing the transform buffer")
        self.clear()

    def _problem(self, target: str, source: str, time_ns: int) -> str:
        try:
            self._lookup(target, source, time_ns)
        except TransformException as error:
            return str(error)
        return ""

    def _check_frames(self, *frames: str) -> None:
        for frame in frames:
            if not frame or frame.startswith("/"):
                raise InvalidArgumentException(f"frame '{frame}' is empty or starts with a slash")
            if frame not in self._frames:
                raise LookupException(f"frame '{frame}' does not exist")

    def _lookup(self, target: str, source: str, time_ns: int) -> tuple[Pose, int]:
        """``T_target_source`` and its stamp."""
        if target == source:
            latest = self._links[target].latest() if time_ns == 0 and target in self._links else None
            return IDENTITY, latest[0] if latest else time_ns
        self._check_frames(target, source)
        time_ns = time_ns or self._latest_common_ns(target, source)
        T_frame_source = {source: IDENTITY}  # for each frame from the source upwards
        frame, pose = source, IDENTITY
        blocked: ExtrapolationException | None = None
        while frame != target and frame in self._links:
            try:
                frame, T_parent_frame = self._links[frame].at(time_ns)
            except ExtrapolationException as error:  # the target may still hang on what was passed already
                blocked = error
                break
            if frame in T_frame_source:
                raise _loop(frame)
            pose = T_frame_source[frame] = compose(T_parent_frame, pose)
        frame, pose, passed = target, IDENTITY, {target}
        while frame not in T_frame_source:
            if frame not in self._links:
                if blocked is not None:
                    raise _between(blocked, target, source)
                raise _unconnected(target, source)
            try:
                frame, T_parent_frame = self._links[frame].at(time_ns)
            except ExtrapolationException as error:
                raise _between(error, target, source) from None
            if frame in passed:
                raise _loop(frame)
            passed.add(frame)
            pose = compose(T_parent_frame, pose)
        return compose(invert(pose), T_frame_source[frame]), time_ns

    def _latest_common_ns(self, target: str, source: str) -> int:
        """Newest stamp that every moving link between the frames has reached; 0 where none moves."""
        newest_ns = {source: _ALWAYS_NS}  # up to each frame from the source upwards
        for parent, stamp_ns in self._newest_upwards(source, target):
            newest_ns[parent] = stamp_ns
        common_ns = newest_ns.get(target)
        if common_ns is None:
            for parent, stamp_ns in self._newest_upwards(target, source):
                if parent in newest_ns:
                    common_ns = min(stamp_ns, newest_ns[parent])
                    break
            else:
                raise _unconnected(target, source)
        return 0 if common_ns == _ALWAYS_NS else common_ns

    def _newest_upwards(self, frame: str, end: str) -> list[tuple[str, int]]:
        """The ancestors of ``frame``, up to ``end`` or the root, and how new the chain up to each is."""
        ancestors: list[tuple[str, int]] = []
        newest_ns, passed = _ALWAYS_NS, {frame}
        while frame != end and frame in self._links and (latest := self._links[frame].latest()) is not None:
            stamp_ns, frame = latest
            newest_ns = min(newest_ns, stamp_ns or _ALWAYS_NS)
            if frame in passed:
                raise _loop(frame)
            passed.add(frame)
            ancestors.append((frame, newest_ns))
        return ancestors


def _nanoseconds(time: Any) -> int:
    """Nanoseconds of a time message or an rclpy Time."""
    return time.sec * 10**9 + time.nanosec if hasattr(time, "nanosec") else time.nanoseconds


def _unit(quaternion: tuple[float, ...]) -> tuple[float, float, float, float]:
    """The quaternion with length 1; of the two that are one rotation, that with w >= 0."""
    x, y, z, w = quaternion
    length = math.copysign(math.sqrt(x * x + y * y + z * z + w * w), w)
    return x / length, y / length, z / length, w / length


def _loop(frame: str) -> LookupException:
    return LookupException(f"the tree of frames is invalid: following the parents of '{frame}' leads back to it")


def _unconnected(target: str, source: str) -> ConnectivityException:
    return ConnectivityException(f"'{target}' and '{source}' are not part of the same tree")


def _between(error: ExtrapolationException, target: str, source: str) -> ExtrapolationException:
    return ExtrapolationException(f"{error}, when looking up the transform from '{source}' to '{target}'")
