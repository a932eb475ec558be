"""Synchronization as a filter: image filters in, sets of images out (see ``da3_ros.ingest.sync`` for the rules)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from da3_ros.config import SyncConfig
from da3_ros.errors import FrameError
from da3_ros.ingest.from_msg import stamp_from_header
from da3_ros.ingest.sync import ClockJump, FrameSynchronizer, MatchedSet
from da3_ros.ingest.sync_statistics import CameraStatistics
from da3_ros.ros.compat.message_filters import SimpleFilter
from da3_ros.ros.engine import ImageSet

_NS = 1_000_000_000
# Time-outs are noticed within this share of ``sync.timeout_s``.
_POLLS_PER_TIMEOUT = 4


class _Arrived(NamedTuple):
    message: Any
    arrival_s: float


class SynchronizerFilter(SimpleFilter):
    """Outputs an ``ImageSet`` for every set of messages that belong together.

    ``inputs``: one filter a camera; their messages need a header. ``on_jump`` is called when the stamps
    went backwards, before anything newer is output, ``dropped`` for messages without a stamp.
    Images may come from several threads; what is called then runs in theirs, or in the executor's for what waited too
    long, one at a time.
    """

    def __init__(
        self,
        node: Node,
        inputs: Mapping[str, SimpleFilter],
        config: SyncConfig,
        on_jump: Callable[[ClockJump], None],
        dropped: Callable[[FrameError], None],
    ):
        super().__init__()
        self._node = node
        self._on_jump = on_jump
        self._dropped = dropped
        self._lock = threading.RLock()  # of the synchronizer and the order of what it gives
        self._synchronizer = FrameSynchronizer(
            tuple(inputs),
            slop_ns=round(config.slop_s * _NS),
            queue=config.queue,
            timeout_ns=round(config.timeout_s * _NS),
            min_cameras=config.min_cameras,
        )
        for camera, images in inputs.items():
            images.registerCallback(self._add, camera)
        # Steady, not ROS time: a camera also falls silent while simulated time stands still.
        self._timer = node.create_timer(
            config.timeout_s / _POLLS_PER_TIMEOUT, self._poll, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def reset(self) -> None:
        """Forget the images that wait."""
        with self._lock:
            self._synchronizer.reset()

    def statistics(self) -> dict[str, CameraStatistics]:
        """What each camera sent and what became of it; arrival times are of ``time.monotonic_ns``."""
        with self._lock:
            return self._synchronizer.statistics()

    def close(self) -> None:
        """Stop looking for time-outs."""
        self._node.destroy_timer(self._timer)

    def _add(self, message: Any, camera: str) -> None:
        try:
            stamp_ns = stamp_from_header(message.header, camera)
        except FrameError as error:  # a stamp of zero would pass for a clock jump of all cameras
            self._dropped(error)
            return
        with self._lock:
            now_ns = time.monotonic_ns()
            self._output(self._synchronizer.add(camera, stamp_ns, _Arrived(message, now_ns / _NS), now_ns))

    def _poll(self) -> None:
        with self._lock:
            self._output(self._synchronizer.poll(time.monotonic_ns()))

    def _output(self, sets: list[MatchedSet]) -> None:
        jump = self._synchronizer.take_reset()
        if jump is not None:
            self._on_jump(jump)
        now_s = time.monotonic()
        for matched in sets:
            self.signalMessage(
                ImageSet(
                    stamp_ns=matched.stamp_ns,
                    images={camera: item.message for camera, item in matched.items.items()},
                    first_arrival_s=min(item.arrival_s for item in matched.items.values()),
                    complete_s=now_s,
                )
            )
