"""From synchronized messages to published estimates: one thread that owns the network, one that publishes.

The pipeline is made, used and closed in the inference thread only. Publishing has its own thread, so that it does
not hold up the next step. Both inboxes are bounded and drop the oldest; drops are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from da3_ros.config import Config, PointsConfig
from da3_ros.datatypes import Estimate, FrameSet, OutputRequest
from da3_ros.errors import FrameError
from da3_ros.ros.stats import Stats
from da3_ros.ros.worker import Worker

# Estimates that may wait for the publisher: one in hand and one fresh.
_PENDING_ESTIMATES = 2


class StepPipeline(Protocol):
    """What the engine needs of ``da3_ros.pipeline.Pipeline``."""

    @property
    def description(self) -> Mapping[str, Any]:
        """What runs, for logs and diagnostics."""

    def step(self, frame_set: FrameSet, request: OutputRequest) -> Estimate | None:
        """One frame set in; None when the window advanced without a network step."""

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Known extrinsics by camera name."""

    def update_points(self, points: PointsConfig) -> None:
        """Other point cloud settings from now on."""

    def reset(self) -> None:
        """Forget the window."""

    def close(self) -> None:
        """Release everything."""


@dataclass(frozen=True)
class ImageSet:
    """Messages that belong together, by camera, and when (monotonic seconds) their first image came and they left
    the synchronizer."""

    stamp_ns: int
    images: Mapping[str, Any]
    first_arrival_s: float
    complete_s: float


@dataclass(frozen=True)
class EngineHooks:
    """What the engine calls: the first three in the inference thread, ``publish`` in the publishing thread."""

    decode: Callable[[ImageSet], FrameSet | None]
    request: Callable[[], OutputRequest]
    rig: Callable[[Mapping[str, str]], Mapping[str, np.ndarray] | None]  # camera -> frame id; None: unchanged
    publish: Callable[[Estimate, Mapping[str, Any]], None]
    dropped: Callable[[FrameError], None]
    failed: Callable[[BaseException], None]


class Engine:
    """Loads a pipeline and feeds it; raises Da3Error when it cannot be made.

    An exception that is not a FrameError ends both threads and goes to ``hooks.failed``.
    """

    def __init__(
        self, config: Config, make_pipeline: Callable[[Config], StepPipeline], hooks: EngineHooks, stats: Stats
    ):
        self._hooks = hooks
        self._stats = stats
        self._min_cameras = config.sync.min_cameras
        self._inference: Worker[ImageSet] = Worker(
            "da3-inference",
            self._infer,
            config.sync.pending_sets,
            lambda image_set: stats.set_dropped(image_set.images),
            hooks.failed,
        )
        self._publishing: Worker[tuple[Estimate, float]] = Worker(
            "da3-publish",
            self._publish,
            _PENDING_ESTIMATES,
            lambda _: stats.count("estimates dropped before publishing"),
            hooks.failed,
        )
        try:
            self._pipeline = self._inference.call(lambda: make_pipeline(config)).result()
        except BaseException:
            self._stop(0.0)
            raise
        self.description: Mapping[str, Any] = dict(self._pipeline.description)

    def submit(self, image_set: ImageSet) -> None:
        """Hand over a set; the oldest one waiting is dropped when there are too many. Returns at once."""
        self._inference.submit(image_set)

    def reset(self, forget_outputs: Callable[[], None]) -> None:
        """Forget what waits and the window, then call ``forget_outputs`` in the publishing thread."""
        self._inference.clear()
        self._inference.post(self._pipeline.reset)
        self._publishing.clear()
        self._publishing.post(forget_outputs)

    def update_points(self, points: PointsConfig) -> None:
        """Use other point cloud settings from the next step on."""
        self._inference.post(lambda: self._pipeline.update_points(points))

    def drain(self) -> None:
        """Forget the sets and estimates that wait."""
        self._inference.clear()
        self._publishing.clear()

    def close(self, timeout_s: float) -> bool:
        """End both threads and release the pipeline; False when a step is still running after ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        self.drain()
        try:
            error = self._inference.call(self._pipeline.close).exception(timeout_s)
        except (TimeoutError, CancelledError):  # still busy, or the thread failed and nothing is left to close
            error = None
        if error is not None:
            self._hooks.failed(error)
        return self._stop(max(0.0, deadline - time.monotonic()))

    def _stop(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        ended = self._inference.stop(timeout_s)
        return self._publishing.stop(max(0.0, deadline - time.monotonic())) and ended

    def _infer(self, image_set: ImageSet) -> None:
        start = time.monotonic()
        self._stats.stage("sync", (image_set.complete_s - image_set.first_arrival_s) * 1e3)
        self._stats.stage("wait for network", (start - image_set.complete_s) * 1e3)
        frame_set = self._hooks.decode(image_set)
        self._stats.stage("decode", (time.monotonic() - start) * 1e3)
        if frame_set is None:
            return
        rig = self._hooks.rig({frame.camera: frame.frame_id for frame in frame_set.frames})
        if rig is not None:
            self._pipeline.set_rig(rig)
        begin = time.monotonic()
        estimate = self._step(frame_set)
        if estimate is None:
            return
        now = time.monotonic()
        for stage, milliseconds in estimate.timings_ms.items():
            self._stats.stage(stage, milliseconds)
        self._stats.stage("step", (now - begin) * 1e3)
        self._stats.stepped(now, dict(estimate.warnings))
        self._publishing.submit((estimate, image_set.first_arrival_s))

    def _step(self, frame_set: FrameSet) -> Estimate | None:
        """Step with the frames that can be used: one that cannot is dropped, and the rest tried again."""
        request = self._hooks.request()
        while len(frame_set.frames) >= self._min_cameras:
            try:
                return self._pipeline.step(frame_set, request)
            except FrameError as error:
                self._hooks.dropped(error)
                left = tuple(frame for frame in frame_set.frames if frame.camera != error.camera)
                if not left or len(left) == len(frame_set.frames):
                    break
                frame_set = replace(frame_set, frames=left, stamp_ns=max(frame.stamp_ns for frame in left))
        self._stats.count("sets without enough usable frames")
        return None

    def _publish(self, item: tuple[Estimate, float]) -> None:
        estimate, first_arrival_s = item
        start = time.monotonic()
        for view in estimate.views:
            if view.T_odom_cam is not None and not np.isfinite(view.T_odom_cam).all():
                # A robot is better off without an estimate that has no pose.
                text = "the network's pose is not finite; with model.dtype float16 try bfloat16 or float32"
                self._hooks.dropped(FrameError(view.camera, "not finite", text))
                return
        self._hooks.publish(estimate, self.description)
        now = time.monotonic()
        self._stats.count("published")
        self._stats.stage("publish", (now - start) * 1e3)
        self._stats.stage("total", (now - first_arrival_s) * 1e3)
