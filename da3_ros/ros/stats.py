"""What happened, counted: images and drops of each camera, stage times and drops of the pipeline. Thread-safe.

Times are seconds of ``time.monotonic()``, so that neither simulated time nor a clock jump disturbs them.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from da3_ros.datatypes import Estimate

_RATE_SAMPLES = 60
_STAGE_SAMPLES = 200


class Rate:
    """Events a second over the last few dozen of them; falls while none arrive."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_RATE_SAMPLES)

    def add(self, now_s: float) -> None:
        """Count one event."""
        self._times.append(now_s)

    def hz(self, now_s: float) -> float:
        """The rate now; 0 before two events."""
        if len(self._times) < 2:
            return 0.0
        span = self._times[-1] - self._times[0]
        # Until the next event is overdue, the past spacing is the better estimate.
        overdue = now_s - self._times[-1] - span / (len(self._times) - 1)
        return (len(self._times) - 1) / max(span + max(overdue, 0.0), 1e-9)


class RecentCounts:
    """How much counters grew over about the last ``window_s``."""

    def __init__(self, window_s: float):
        self._window_s = window_s
        self._past: deque[tuple[float, dict[str, int]]] = deque()

    def update(self, counts: Mapping[str, int], now_s: float) -> dict[str, int]:
        """Note the counters as of now; the growth of those that grew."""
        self._past.append((now_s, dict(counts)))
        while len(self._past) > 1 and now_s - self._past[1][0] >= self._window_s:
            self._past.popleft()
        before = self._past[0][1]
        growth = {name: count - before.get(name, 0) for name, count in counts.items()}
        return {name: number for name, number in growth.items() if number > 0}


@dataclass
class CameraRecord:
    """Counters of one camera."""

    received: int = 0
    rate: Rate = field(default_factory=Rate)
    last_arrival_s: float | None = None
    last_stamp_ns: int | None = None
    frame_id: str = ""
    info_received: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    last_error: str = ""
    last_error_reason: str = ""
    last_error_s: float | None = None


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one stage over the last steps."""

    p50: float
    p95: float


class Stats:
    """All counters of the node since it was configured."""

    def __init__(self, cameras: Iterable[str]):
        self._lock = threading.Lock()
        self._cameras = {name: CameraRecord() for name in cameras}
        self._stages: dict[str, deque[float]] = {}
        self._counts: Counter[str] = Counter()
        self._rate = Rate()
        self._warnings: dict[str, str] = {}
        self._last_jump: tuple[str, float] | None = None
        self._last_estimate: Estimate | None = None
        self._last_anew: tuple[str, float] | None = None
        self._last_refused: tuple[str, float] | None = None

    def image_arrived(self, camera: str, stamp_ns: int, frame_id: str, now_s: float) -> None:
        """An image message of ``camera`` came in."""
        with self._lock:
            record = self._cameras[camera]
            record.received += 1
            record.rate.add(now_s)
            record.last_arrival_s = now_s
            record.last_stamp_ns = stamp_ns
            record.frame_id = frame_id

    def info_arrived(self, camera: str) -> None:
        """A CameraInfo message of ``camera`` came in."""
        with self._lock:
            self._cameras[camera].info_received += 1

    def frame_dropped(self, camera: str, reason: str, text: str, now_s: float) -> None:
        """A frame of ``camera`` could not be used; ``text`` is the sentence for the user."""
        with self._lock:
            record = self._cameras[camera]
            record.dropped[reason] += 1
            record.last_error = text
            record.last_error_reason = reason
            record.last_error_s = now_s

    def frame_awaits_info(self, camera: str, reason: str) -> None:
        """A frame of ``camera`` was left out because nothing is known of its calibration yet."""
        with self._lock:
            self._cameras[camera].dropped[reason] += 1

    def clock_jumped(self, text: str, now_s: float) -> None:
        """Time went backwards; ``text`` is the sentence for the user."""
        with self._lock:
            self._counts["clock jumps"] += 1
            self._last_jump = text, now_s

    def odometry_refused(self, text: str, now_s: float) -> None:
        """A message of scale.odometry_topic could not be used; ``text`` is the sentence for the user."""
        with self._lock:
            self._counts["odometry refused"] += 1
            self._last_refused = text, now_s

    def last_refused(self) -> tuple[str, float] | None:
        """Why the last message of scale.odometry_topic that could not be used could not, and when."""
        with self._lock:
            return self._last_refused

    def last_jump(self) -> tuple[str, float] | None:
        """What the last clock jump was, and when."""
        with self._lock:
            return self._last_jump

    def set_dropped(self, cameras: Iterable[str]) -> None:
        """A whole set of images of ``cameras`` was dropped because the network was busy."""
        with self._lock:
            self._counts["sets dropped before the network"] += 1
            for camera in cameras:
                self._cameras[camera].dropped["network busy"] += 1

    def count(self, event: str, number: int = 1) -> None:
        """Add to the counter ``event`` of the pipeline."""
        with self._lock:
            self._counts[event] += number

    def stepped(self, now_s: float) -> None:
        """One network step was handed to the device."""
        with self._lock:
            self._counts["steps"] += 1
            self._rate.add(now_s)

    def warned(self, warnings: dict[str, str]) -> None:
        """What the newest estimate says is wrong: camera -> text, empty when nothing is."""
        with self._lock:
            self._warnings = warnings

    def tracked(self, estimate: Estimate, now_s: float) -> None:
        """An estimate, for what it says of tracking and scale."""
        with self._lock:
            self._last_estimate = estimate
            if estimate.tracking is not None:
                if estimate.tracking.anew:
                    self._counts["starts of odom anew"] += 1
                    self._last_anew = estimate.tracking.status, now_s
                for source in estimate.tracking.scale_jumped:
                    self._counts[f"scale jumps to {source}"] += 1

    def last_anew(self) -> tuple[str, float] | None:
        """The state of tracking with which odom last began anew without a reset, and when."""
        with self._lock:
            return self._last_anew

    def last_estimate(self) -> Estimate | None:
        """The newest estimate that was tracked."""
        with self._lock:
            return self._last_estimate

    def stage(self, name: str, milliseconds: float) -> None:
        """One more duration of the stage ``name``."""
        with self._lock:
            self._stages.setdefault(name, deque(maxlen=_STAGE_SAMPLES)).append(milliseconds)

    def camera(self, name: str) -> CameraRecord:
        """A copy of the counters of camera ``name``."""
        with self._lock:
            record = self._cameras[name]
            copy = CameraRecord(**vars(record))
            copy.dropped = record.dropped.copy()
            return copy

    def warning(self, camera: str) -> str:
        """What the last step said is wrong with ``camera``; empty for nothing."""
        with self._lock:
            return self._warnings.get(camera, "")

    def counts(self) -> Counter[str]:
        """A copy of the pipeline's counters."""
        with self._lock:
            return self._counts.copy()

    def step_hz(self, now_s: float) -> float:
        """Network steps a second."""
        with self._lock:
            return self._rate.hz(now_s)

    def stages(self) -> dict[str, StageTimes]:
        """Median and 95th percentile of each stage, in the order in which they were first seen."""
        with self._lock:
            samples = {name: list(values) for name, values in self._stages.items()}
        return {name: StageTimes(*np.percentile(values, (50, 95)).tolist()) for name, values in samples.items()}
