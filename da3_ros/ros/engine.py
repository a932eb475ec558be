"""From synchronized messages to published estimates: one thread that owns the network, one that publishes.

The pipeline is made, used and closed in the inference thread only; it hands steps to the device and goes on to the
next set. The publishing thread waits for each result and sends it at once. Both inboxes are bounded and drop the
oldest; drops are counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from da3_ros.config import Config, PointsConfig
from da3_ros.datatypes import CameraCalibration, Estimate, FrameSet, OutputRequest
from da3_ros.errors import FrameError, UnavailableError
from da3_ros.ros.stats import Stats
from da3_ros.tracking.voxel_map import VoxelMap
from da3_ros.usable import pose_problem, submit_usable
from da3_ros.worker import Worker

# Estimates that may wait for the publisher: one in hand and one fresh.
_PENDING_ESTIMATES = 2
# Steps that the device may have at once: one that it computes, and the next one, whose images are on their way.
_STEPS_UNDER_WAY = 2


class Pending(Protocol):
    """What the engine needs of ``da3_ros.estimates.PendingEstimate``."""

    def wait(self) -> None:
        """Wait until the device is done with the step."""

    def result(self) -> Estimate:
        """The estimate, after ``wait``."""


class StepPipeline(Protocol):
    """What the engine needs of ``da3_ros.pipeline.Pipeline``."""

    @property
    def description(self) -> Mapping[str, Any]:
        """What runs, for logs and diagnostics."""

    @property
    def warms_up(self) -> bool:
        """Whether ``warm_up`` has anything to do."""

    def warm_up(self, calibrations: Mapping[str, CameraCalibration]) -> None:
        """Get ready for images of these cameras, all of them, which may take minutes."""

    def submit(self, frame_set: FrameSet, request: OutputRequest) -> Pending | None:
        """One frame set in, without waiting for the device; None when the window advanced without a network step."""

    @property
    def skipped(self) -> int:
        """Sets so far that were left out because the cameras barely moved."""

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Known extrinsics by camera name."""

    def map_snapshot(self) -> Future[VoxelMap] | None:
        """The map of now, None without one."""

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
class _Answer:
    """A result to come, and when (monotonic seconds) its step was submitted and its first image came."""

    pending: Pending
    submitted_s: float
    first_arrival_s: float


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
        self._skipped = 0  # of the pipeline's sets, as far as counted
        self._inference: Worker[ImageSet] = Worker(
            "da3-inference",
            self._infer,
            config.sync.pending_sets,
            lambda image_set: stats.set_dropped(image_set.images),
            hooks.failed,
        )
        self._under_way: deque[Pending] = deque()
        self._publishing: Worker[_Answer] = Worker(
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

    @property
    def warms_up(self) -> bool:
        """Whether the first set would have to wait for a warm-up."""
        return self._pipeline.warms_up

    def warm_up(self, calibrations: Mapping[str, CameraCalibration]) -> None:
        """Have the pipeline get ready for images of these cameras, all of them; returns when it is."""
        self._inference.call(lambda: self._pipeline.warm_up(calibrations)).result()

    def submit(self, image_set: ImageSet) -> None:
        """Hand over a set; the oldest one waiting is dropped when there are too many. Returns at once."""
        self._inference.submit(image_set)

    def reset(self, forget_outputs: Callable[[], None]) -> None:
        """Forget what waits and the window, then call ``forget_outputs`` in the publishing thread, after the last
        estimate from before and before the first one from after."""

        def forget() -> None:
            self._pipeline.reset()
            # Only now, since the step that was in work has left an estimate.
            self._publishing.clear()
            self._publishing.post(forget_outputs)

        self._inference.clear()
        self._inference.post(forget)

    def update_points(self, points: PointsConfig) -> None:
        """Use other point cloud settings from the next step on."""
        self._inference.post(lambda: self._pipeline.update_points(points))

    def map_snapshot(self, timeout_s: float) -> VoxelMap | None:
        """The map as it is after the step in work; None without one. Raises UnavailableError after ``timeout_s``."""
        try:
            coming = self._inference.call(self._pipeline.map_snapshot).result(timeout_s)
            return None if coming is None else coming.result(timeout_s)
        except (TimeoutError, CancelledError) as error:
            raise UnavailableError(f"the step in work has not ended within {timeout_s:.0f} s: no map") from error

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
        pending = self._submit(frame_set)
        self._count_skipped()
        if pending is None:
            return
        self._stats.stepped(begin)
        self._publishing.submit(_Answer(pending, begin, image_set.first_arrival_s))
        self._under_way.append(pending)
        if len(self._under_way) == _STEPS_UNDER_WAY:
            # Sets wait here and not behind the device, so that the next one to be taken is a fresh one.
            self._under_way.popleft().wait()

    def _count_skipped(self) -> None:
        skipped = self._pipeline.skipped
        self._stats.count("sets left out, barely moved", skipped - self._skipped)
        self._skipped = skipped

    def _submit(self, frame_set: FrameSet) -> Pending | None:
        """Submit the frames that can be used: one that cannot is dropped, and the rest tried again."""
        request = self._hooks.request()
        submitted = submit_usable(
            frame_set, self._min_cameras, lambda usable: self._pipeline.submit(usable, request), self._hooks.dropped
        )
        if not submitted.taken:
            self._stats.count("sets without enough usable frames")
        return submitted.result

    def _publish(self, answer: _Answer) -> None:
        estimate = answer.pending.result()
        start = time.monotonic()
        for stage, milliseconds in estimate.timings_ms.items():
            self._stats.stage(stage, milliseconds)
        self._stats.stage("step", (start - answer.submitted_s) * 1e3)
        self._stats.warned(dict(estimate.warnings))
        self._stats.tracked(estimate, start)
        problem = pose_problem(estimate)
        if problem is not None:
            self._hooks.dropped(problem)
            return
        self._hooks.publish(estimate, self.description)
        now = time.monotonic()
        self._stats.count("published")
        self._stats.stage("publish", (now - start) * 1e3)
        self._stats.stage("total", (now - answer.first_arrival_s) * 1e3)
