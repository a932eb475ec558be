"""Tracking of one stream of windows, from a reset to the next: device and host side together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from da3_ros.datatypes import FrameSet, WindowPrediction
from da3_ros.streaming.transfer import Download
from da3_ros.streaming.window import Slot
from da3_ros.tracking.extrinsics_monitor import ExtrinsicsMonitor
from da3_ros.tracking.history import PendingStep, TrackHistory
from da3_ros.tracking.keyframes import AnchorPolicy
from da3_ros.tracking.pose_noise import UNLEARNT
from da3_ros.tracking.scale_filter import ScaleFilter
from da3_ros.tracking.steady_motion import UNKNOWN
from da3_ros.tracking.tracker import TrackedWindow, Tracker, ViewKey


@dataclass(frozen=True)
class TrackingSettings:
    """``sources`` of scale that may be used; ``sets`` and ``cameras`` of the window; ``repeats``: false where windows
    are off independently of each other, see RepeatedErrors; ``steadies``: false where the robot says itself where
    its body is; the rest as the parameters."""

    sources: tuple[str, ...]
    sets: int
    cameras: int
    time_constant_s: float = 5.0
    jump_after: int = 5
    policy: AnchorPolicy = field(default_factory=AnchorPolicy)
    drift_angle_deg: float = 1.0
    drift_distance_m: float = 0.03
    execution: str = "eager"
    repeats: bool = True
    steadies: bool = True


class WindowTracking:
    """Feeds a Tracker and its TrackHistory, and chooses the sets that leave the window. Not thread-safe, but for
    ``settle``."""

    def __init__(self, settings: TrackingSettings, device: torch.device):
        self._settings = settings
        # On CUDA the step before this one is still under way when the next one is submitted; waiting for the one
        # before that costs nothing, and which step is asked never depends on timing.
        self._lag = 1 if device.type == "cuda" else 0
        scale_filter = ScaleFilter(settings.time_constant_s, settings.jump_after)
        self._tracker = Tracker(scale_filter, device, settings.sets * settings.cameras, settings.execution)
        self._T_base_cam: dict[str, np.ndarray] = {}
        self.reset()

    def reset(self) -> None:
        """The next window is the first one. Steps under way are not touched."""
        settings = self._settings
        self._tracker.reset()
        monitor = ExtrinsicsMonitor(settings.drift_angle_deg, settings.drift_distance_m)
        self._history = TrackHistory(settings.policy, monitor, settings.time_constant_s, settings.repeats)
        self._sets: dict[ViewKey, int] = {}
        self._under_way: list[PendingStep] = []  # the last two

    def set_rig(self, T_base_cam: Mapping[str, np.ndarray]) -> None:
        """Known extrinsics: camera name -> (4, 4) T_base_cam in metres."""
        self._T_base_cam = dict(T_base_cam)
        self._history.forget_rig()

    def leaving(self, slots: Sequence[Slot]) -> list[Slot] | None:
        """The views, of those in the window's ``slots``, that leave for another set; None: the oldest set if needed.

        A set with which the window became unusable leaves at once, whether or not there is need.
        Waits for the device only where a step is complete anyway.
        """
        stamps = sorted({self._sets.get(_key(slot), slot.view.stamp_ns) for slot in slots})
        decided = self._decided()
        if decided is None:
            return None
        leaves = self._history.spoilt(decided.step, stamps)
        if leaves is None and len(stamps) == self._settings.sets:
            leaves = self._history.leaving(decided.step, stamps)
        if leaves is None:
            return None
        return [slot for slot in slots if self._sets.get(_key(slot), slot.view.stamp_ns) == leaves]

    def note(self, frame_set: FrameSet) -> None:
        """A set entered the window."""
        self._tracker.note(frame_set)
        self._sets.update({(frame.camera, frame.stamp_ns): frame_set.stamp_ns for frame in frame_set.frames})

    def place(self, prediction: WindowPrediction, K: Tensor, ranges: np.ndarray | None = None) -> TrackedWindow:
        """Track a prediction with poses whose newest set is decoded; ``K`` (N, 3, 3) in use, ``ranges`` see Tracker."""
        assert prediction.T_cam_world is not None and prediction.depth_conf is not None
        depth, metres = prediction.depth, None
        if prediction.sky is not None:
            depth = torch.where(prediction.sky, torch.nan, depth)
        if prediction.metres_per_unit is not None and prediction.metres_stddev is not None:
            metres = torch.stack([prediction.metres_per_unit, prediction.metres_stddev])
        return self._tracker.step(
            prediction.views, prediction.T_cam_world, K, depth, prediction.depth_conf, prediction.colours,
            self._T_base_cam, self._settings.sources, metres, ranges, self._error_growth(), self._motion_noise(),
            missed=self._missed(),
        )  # fmt: skip

    def _decided(self) -> PendingStep | None:
        """The newest step that may be asked without waiting for the device; settled. None: there is none yet."""
        if len(self._under_way) <= self._lag:
            return None
        decided = self._under_way[-1 - self._lag]
        self._history.settle(decided)
        return decided

    def _error_growth(self) -> float:
        """As far as it is known."""
        decided = self._decided()
        return UNLEARNT if decided is None else self._history.error_growth(decided.step)

    def _motion_noise(self) -> np.ndarray:
        """Likewise."""
        decided = self._decided() if self._settings.steadies else None
        return UNKNOWN if decided is None else self._history.motion_noise(decided.step)

    def _missed(self) -> bool:
        """Whether the window before the last one was not usable; of the last one itself the device alone knows."""
        return len(self._under_way) == 2 and not self._under_way[0].settle().report.usable

    def exclude(self, dynamic: Tensor) -> None:
        """Keep pixels of the newest views, (M, P) bool of their coarse maps, out of later alignments."""
        self._tracker.exclude(dynamic)

    def submit(
        self, step: int, stamp_ns: int, prediction: WindowPrediction, tracked: TrackedWindow, download: Download
    ) -> PendingStep:
        """A step whose numbers are on their way to the host."""
        views = prediction.views
        keys = [(view.camera, view.stamp_ns) for view in views]
        self._sets = {key: stamp for key, stamp in self._sets.items() if key in set(keys)}
        pending = PendingStep(
            history=self._history,
            step=step,
            stamp_ns=stamp_ns,
            views=views,
            sets=[self._sets.get(key, key[1]) for key in keys],
            placed=[view.camera for view in views if view.newest and view.camera in self._T_base_cam],
            first=tracked.first,
            connected=tracked.connected,
            bridged=tracked.bridged,
            T_new_old=tracked.T_new_old,
            error_growth=tracked.error_growth,
            predicted=tracked.predicted,
            larger=tracked.larger,
            canvas_hw=(prediction.depth.shape[-2], prediction.depth.shape[-1]),
            arrays=download.wait,
        )
        self._history.submit(pending)
        self._under_way = [*self._under_way[-1:], pending]
        return pending


def _key(slot: Slot) -> ViewKey:
    return slot.view.camera, slot.view.stamp_ns
