"""Between the pipeline's steps and the mapper: what a step gives to the map, and what the map gives to an estimate.

On a robot the mapper has a thread of its own with a bounded inbox, so that no step waits for keyframes, loops or map.
A recording that is replayed is to give the same map each time: there the mapper does its work within the steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import torch

from da3_ros.cuda_graphs import Replay
from da3_ros.datatypes import MapEstimate, MapReport, PointBuffer, WindowPrediction
from da3_ros.geometry.clouds import pack_points
from da3_ros.streaming.programs import Programs
from da3_ros.streaming.transfer import Download, Downloader
from da3_ros.tracking.dynamic import DynamicFilter
from da3_ros.tracking.gauge import invert_rigid
from da3_ros.tracking.history import PendingStep
from da3_ros.tracking.keyframe_store import KeyframeView, map_grid
from da3_ros.tracking.loop_closure import SharedWindow
from da3_ros.tracking.mapping import Mapper, MappingSettings, OdomChange, StepMaps, StepView
from da3_ros.tracking.records import TrackedStep, TrackedView
from da3_ros.tracking.tracker import TrackedWindow
from da3_ros.tracking.voxel_map import Cloud, VoxelMap
from da3_ros.tracking.window_program import REPORT, T_TOLD_KEPT, USABLE
from da3_ros.tracking.window_scale import thumbnail_grid
from da3_ros.worker import Worker

# ``relate(pictures, contents)``: poses T_world_cam (N, 4, 4) and depth (N, H, W) of N pictures (H, W, 3) uint8 RGB
# that the network sees as one window.
Relate = Callable[[Sequence[np.ndarray], Sequence[tuple[int, int, int, int]]], tuple[np.ndarray, np.ndarray]]

_LEAST_WEIGHT = 0.01
_MOST_GRAPHS = 16
# Steps that may wait for the mapper, with their pictures; beyond, the oldest one's motion alone is remembered.
_MOST_WAITING = 8
_CLOSE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class _Waiting:
    pending: PendingStep
    pictures: Download
    points: bool


@dataclass(frozen=True)
class _Step:
    """A step on its way to the mapper; ``change`` of odom since the one before it, ``generation`` of resets."""

    tracked: TrackedStep
    arrays: Mapping[str, np.ndarray]
    points: bool
    change: OdomChange
    generation: int


class MapSession:
    """Feeds a Mapper with tracked steps. Not thread-safe. Raises UnavailableError where the solver is missing.

    ``body``: the camera that stands for the robot where no camera's place on it is known. ``percentile``: share of
    least confident pixels of a view that stay out of the map. ``map_frame``: where ``points`` are. ``period_s``: from
    one cloud to the next. The mapper works within ``submit`` if ``settings.waits``, else on a thread of its own, whose
    failure the next ``submit`` raises.
    """

    def __init__(
        self,
        settings: MappingSettings,
        relate: Relate,
        device: torch.device,
        body: str,
        percentile: float,
        map_frame: str,
        period_s: float,
    ):
        # On CUDA a step's numbers are there when the second one after it is submitted; which step is taken in must
        # not depend on timing.
        self._lag = 2 if device.type == "cuda" else 0
        self._downloader = Downloader(device)
        self._relate = relate
        self._body, self._percentile, self._map_frame = body, percentile, map_frame
        self._period_ns = round(period_s * 1e9)
        self._waiting: deque[_Waiting] = deque()
        self._mapper = Mapper(settings, self._look)
        # What follows is the mapper's side.
        self._sent = -1, -(2**62)  # version and stamp of the cloud that was given last
        self._missed_change = OdomChange()  # of steps that were no use to the mapper
        self._based: bool | None = None  # whether the body is the base, and no camera; None before any
        self._lock = Lock()  # for what both sides have
        self._generation = self._left_out = 0
        self._error: BaseException | None = None
        self._now = MapEstimate(np.eye(4), MapReport())
        self._worker = (
            None if settings.waits else Worker("da3-map", self._take, _MOST_WAITING, self._count, self._fail, _merged)
        )

    def reset(self) -> None:
        """Forget keyframes, loops and map."""
        self._waiting.clear()
        with self._lock:
            self._generation += 1
            self._left_out = 0
            self._now = MapEstimate(np.eye(4), MapReport())
        if self._worker is None:
            self._forget()
        else:
            self._worker.clear()
            self._worker.post(self._forget)

    def close(self) -> None:
        """Wait for the window that is under way; what waits is left undone."""
        if self._worker is not None:
            self._worker.stop(_CLOSE_TIMEOUT_S)
        self._mapper.close()

    def snapshot(self) -> Future[VoxelMap]:
        """The map as it is when the mapper's step in work, if any, is done."""
        if self._worker is not None:
            return self._worker.call(self._mapper.snapshot)
        done: Future[VoxelMap] = Future()
        done.set_result(self._mapper.snapshot())
        return done

    @property
    def mapper(self) -> Mapper:
        """What makes the map; where ``settings.waits`` the thread that submits may ask it, and take it further."""
        return self._mapper

    def keyframe_poses(self) -> tuple[np.ndarray, np.ndarray]:
        """As Mapper.keyframe_poses."""
        return self._mapper.keyframe_poses()

    def submit(
        self,
        pending: PendingStep,
        prediction: WindowPrediction,
        tracked: TrackedWindow,
        dynamic: torch.Tensor,
        points: bool,
    ) -> None:
        """A step whose numbers are on their way; ``dynamic`` (M, H, W) uint8 of its newest views, 0 where it is not.

        With ``points`` somebody wants the map's cloud.
        """
        if self._error is not None:
            raise self._error
        assert prediction.depth_conf is not None
        grid = (slice(None), *map_grid(*dynamic.shape[-2:]))
        depth = prediction.depth if prediction.sky is None else torch.where(prediction.sky, torch.nan, prediction.depth)
        # Confidence is 1 + exp(...): what is above 1 is what the network is sure of.
        weight = (prediction.depth_conf[grid].float() - 1.0).clamp(min=_LEAST_WEIGHT)
        pictures = self._downloader.start(
            {
                "colours": prediction.colours,
                "depth": (depth[grid].float() * tracked.metres_per_unit.float()).contiguous(),
                "weight": torch.where(dynamic[grid] > 0, 0.0, weight).contiguous(),
            }
        )
        self._waiting.append(_Waiting(pending, pictures, points))
        if len(self._waiting) > self._lag:
            waited = self._waiting.popleft()
            self._hand_over(waited.pending.settle(), waited.pictures, waited.points)

    def estimate(self) -> MapEstimate:
        """What the map says now; its cloud with it once, if it has changed and ``period_s`` has passed."""
        with self._lock:
            now, self._now = self._now, replace(self._now, points=None)
        return now

    def _hand_over(self, tracked: TrackedStep, pictures: Download, points: bool) -> None:
        report = tracked.report
        change = OdomChange.of(report.growth, report.shift, tracked.anew, tracked.status == "lost")
        arrays = pictures.wait()
        if self._worker is None:
            self._take(_Step(tracked, arrays, points, change, self._generation))
            return
        if pictures.done is None:  # on the CPU the next step may overwrite them
            arrays = {name: array.copy() for name, array in arrays.items()}
        self._worker.submit(_Step(tracked, arrays, points, change, self._generation))

    def _take(self, step: _Step) -> None:
        change = self._missed_change.then(step.change)
        maps = self._maps(step.tracked, step.arrays, change)
        self._missed_change = change if maps is None else OdomChange()
        self._mapper.step(maps)
        points, version, stamp_ns = None, self._mapper.map_version, step.tracked.stamp_ns
        if step.points and version != self._sent[0] and stamp_ns - self._sent[1] >= self._period_ns:
            self._sent = version, stamp_ns
            points = _point_buffer(self._mapper.cloud(), self._map_frame)
        report = self._mapper.report()
        with self._lock:
            if step.generation == self._generation:
                report = replace(report, left_out=self._left_out)
                self._now = MapEstimate(self._mapper.T_map_odom, report, points or self._now.points)

    def _forget(self) -> None:
        self._mapper.reset()
        self._sent = -1, -(2**62)
        self._missed_change = OdomChange()
        self._based = None

    def _count(self, dropped: _Step) -> None:
        self._left_out += 1

    def _fail(self, error: BaseException) -> None:
        self._error = error

    def _pose(self, tracked: TrackedStep) -> np.ndarray | None:
        """T_odom_body (4, 4) of a step."""
        if tracked.T_odom_base is not None:
            return tracked.T_odom_base
        return next((view.T_odom_cam for view in tracked.newest if view.camera == self._body), None)

    def _maps(self, tracked: TrackedStep, arrays: Mapping[str, np.ndarray], change: OdomChange) -> StepMaps | None:
        """What the mapper takes of a step; None without depth, or where the robot's pose is not among it."""
        newest = [view for view in tracked.newest if view.depth is not None]
        based = tracked.T_odom_base is not None
        if self._based and not based:  # a camera's pose would be a jump
            return None
        if based and self._based is False:
            change = replace(change, anew=True)
        self._based = based
        T_odom_body = self._pose(tracked)
        if T_odom_body is None or not newest or len(newest) != len(arrays["colours"]):
            return None
        maps = zip(newest, arrays["colours"], arrays["depth"], arrays["weight"], strict=True)
        views = [self._view(*one) for one in maps]
        descriptors = np.stack([np.zeros(1) if view.feature is None else view.feature for view in newest])
        turn, shift = tracked.view_variance
        return StepMaps(tracked.stamp_ns, T_odom_body, tuple(views), descriptors, change, (float(turn), float(shift)))

    def _view(self, view: TrackedView, picture: np.ndarray, depth: np.ndarray, weight: np.ndarray) -> StepView:
        rows, columns = map_grid(*picture.shape[-2:])
        K, content = view.K.copy(), np.zeros(picture.shape[-2:], dtype=bool)
        K[:2, 2] -= columns.start, rows.start
        K[:2] /= rows.step
        top, left, height, width = view.view.content
        content[top : top + height, left : left + width] = True
        known = content[rows, columns] & np.isfinite(depth) & (depth > 0) & np.isfinite(weight)
        weight = np.where(known, weight, 0.0)
        if (weight > 0).any():
            weight = np.where(weight < np.percentile(weight[weight > 0], self._percentile), 0.0, weight)
        depth = np.where(known, depth, np.nan)
        colours = np.ascontiguousarray(picture[:, rows, columns].transpose(1, 2, 0))
        return StepView(view.camera, view.T_odom_cam, K, view.view.content, depth, weight, colours, picture)

    def _look(self, views: Sequence[KeyframeView]) -> SharedWindow:
        T_world_cam, depth = self._relate([view.picture() for view in views], [view.content for view in views])
        rows, columns = map_grid(*depth.shape[-2:])
        return SharedWindow(T_world_cam, list(depth[:, rows, columns].astype(np.float64)))


class DynamicStep:
    """Applies a DynamicFilter to tracked windows on the device.

    ``execution`` as model.execution; on CUDA it is one graph for each combination of sets unless it is eager.
    """

    def __init__(self, tolerance: float, device: torch.device, execution: str):
        graphs = execution != "eager"
        self._filter = DynamicFilter(tolerance, Programs(device, "graphs" if graphs else "eager", _MOST_GRAPHS))
        self._replay = Replay(device, _MOST_GRAPHS if graphs else 0)

    def reset(self) -> None:
        """Forget all views."""
        self._filter.reset()

    def step(
        self, stamp_ns: int, prediction: WindowPrediction, K: torch.Tensor, tracked: TrackedWindow
    ) -> torch.Tensor:
        """Which pixels of the newest views' coarse maps show what moves, (M, P) bool. ``K`` (N, 3, 3) in use.

        The next step may overwrite it.
        """
        height, width = prediction.depth.shape[-2:]
        rows, columns = thumbnail_grid(height, width)
        h, w = len(range(height)[rows]), len(range(width)[columns])
        newest = slice(len(K) - len(tracked.depth), None)
        if not tracked.connected or tracked.T_new_old is not None:
            self._filter.reset()
        K_coarse = K[newest].clone()
        K_coarse[:, 0, 2] -= columns.start
        K_coarse[:, 1, 2] -= rows.start
        K_coarse[:, :2] /= rows.step
        depth = torch.where(tracked.weight > 0, tracked.depth, torch.nan).unflatten(1, (h, w))
        # Masks enter what is remembered, so they go by the poses as that has them.
        T_kept_told = invert_rigid(tracked.report[T_TOLD_KEPT].view(4, 4))
        T_odom_cam = T_kept_told @ tracked.T_odom_cam[newest]
        growth, first = tracked.report[REPORT.index("growth")], REPORT.index("shift_x")
        # The host does not know which windows were usable: one that shares nothing with any of those before that were
        # lies anywhere, and what was seen before says nothing of it.
        usable, shared = tracked.report[USABLE], tracked.report[USABLE - len(K) : USABLE]
        growth = torch.where(usable > shared.amax(), torch.nan, growth)
        shift = tracked.report[first : first + 3]
        return self._filter.step(stamp_ns, depth, K_coarse, T_odom_cam, growth, shift).flatten(1)

    def full_size(self, dynamic: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """As the function of that name. The next call may overwrite it."""
        return self._replay.run((height, width), (dynamic,), lambda: full_size(dynamic, height, width))


def _merged(dropped: _Step, step: _Step) -> _Step:
    """``step``, where the one before it is left out."""
    points = step.points or dropped.points
    return replace(step, points=points, change=dropped.change.then(step.change))


def full_size(dynamic: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Coarse masks (M, P) at the size of the canvas, (M, H, W) uint8, 255 where they are set."""
    rows, columns = thumbnail_grid(height, width)
    h, w = len(range(height)[rows]), len(range(width)[columns])
    row = ((torch.arange(height, device=dynamic.device) - rows.start + rows.step // 2) // rows.step).clamp(0, h - 1)
    column = (torch.arange(width, device=dynamic.device) - columns.start + columns.step // 2) // columns.step
    coarse = dynamic.unflatten(1, (h, w)).to(torch.uint8) * 255
    return coarse.index_select(1, row).index_select(2, column.clamp(0, w - 1))


def _point_buffer(cloud: Cloud, frame_id: str) -> PointBuffer:
    valid = torch.ones((1, len(cloud)), dtype=torch.bool)
    rgb = torch.from_numpy(cloud.rgb.T.copy())[:, None]
    data = pack_points(torch.from_numpy(cloud.xyz)[None], rgb, valid).numpy()
    return PointBuffer(data, frame_id, dense=True)
