"""Every window's own gauge into one continuous frame, step by step.

For each step: the unit of the new window from depth and baselines of the views that it shares with the last one,
corrected slowly by the sources of metric scale (scale_filter); then the rigid transform that lays the shared views on
the poses that they have in odom (rigid); then one body pose out of all cameras of the newest set. The arithmetic
(window_program) runs on the window's device and waits for nothing; here is what the host decides, which knows from
their stamps which views are shared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from da3_ros.datatypes import FrameSet, WindowView
from da3_ros.geometry.se3 import IDENTITY, invert
from da3_ros.streaming.device import pinned, pinned_indices
from da3_ros.streaming.programs import Programs
from da3_ros.tracking.body import Body
from da3_ros.tracking.facts import MOST_RANGES, Facts, FactsLayout, known_ways
from da3_ros.tracking.pose_noise import UNLEARNT
from da3_ros.tracking.scale_filter import ScaleFilter, unknown_scale
from da3_ros.tracking.scale_sources import SOURCES
from da3_ros.tracking.steady_motion import UNKNOWN, Pace, at_pace
from da3_ros.tracking.window_program import Memory, advance, realigned
from da3_ros.tracking.window_scale import thumbnail_grid

ViewKey = tuple[str, int]  # camera, stamp_ns
_MOST_GRAPHS = 8
_ESTABLISHED = 3  # windows after which a view is no longer merely one of the newest


@dataclass(frozen=True)
class TrackedWindow:
    """What a step made of its window of N views, the last M of which are the newest set.

    Tensors are on the window's device, float64; they may be buffers that the next step overwrites. Where
    ``connected`` is false no view was shared with the window before: its newest body pose is taken to be the last one
    known, moved by the robot's odometry if there is any (``bridged``), and the scale is kept. ``first`` and
    ``connected`` take windows for usable, which the host does not know yet: the report does (see TrackReport).
    """

    T_odom_cam: Tensor  # (N, 4, 4), NaN where the window is not usable
    T_odom_base: Tensor | None  # (4, 4) of the newest set; None where no camera's place on the robot is known in it
    metres_per_unit: Tensor  # ()
    metric: Tensor  # () bool: whether any source has ever given metres
    depth: Tensor  # (M, P) float32 metres, coarse maps of the newest views
    weight: Tensor  # (M, P) float32, 0 where depth has no meaning
    report: Tensor  # see TrackReport
    error_growth: float  # as given to the step
    predicted: bool  # whether the body's last motion says anything of this one
    # (2, 2) by what squares of innovations are larger for the time that has passed, see at_pace: after a usable window,
    # and after one that was not.
    larger: np.ndarray
    first: bool
    connected: bool
    bridged: bool
    T_given_base: np.ndarray | None  # (4, 4) where the robot's own odometry has the base of the newest set
    # (4, 4) from odom as it was to odom as it is from this window on, where the first transforms of cameras have come
    # after the first window; its translation counts if there were metres before. NaN: nothing connects the two.
    T_new_old: np.ndarray | None


class Tracker:
    """Keeps what the windows have in common. Not thread-safe; ``reset`` forgets everything.

    ``most_views``: of a window. ``execution`` as model.execution; on CUDA a step is one graph unless it is eager.
    """

    def __init__(self, scale_filter: ScaleFilter, device: torch.device, most_views: int, execution: str = "eager"):
        self._filter = scale_filter
        self._device = device
        self._rows = most_views
        self._programs = Programs(device, "eager" if execution == "eager" else "graphs", _MOST_GRAPHS)
        self._no_metres = torch.full((2,), torch.nan, device=device)
        self.reset()

    def reset(self) -> None:
        """As after a backward clock jump: the next window is the first one."""
        self._memory: Memory | None = None
        self._newest: list[int] = []  # rows of the last step's newest views
        self._row: dict[ViewKey, int] = {}
        # How many windows a view's pose comes from, the last one being taken for usable.
        self._windows: dict[ViewKey, int] = {}
        self._stamp_ns = 0
        self._set: dict[ViewKey, int] = {}  # stamp of the set that a view belongs to
        self._given: dict[ViewKey, np.ndarray] = {}  # T_given_base of the robot's own odometry
        self._last_given: np.ndarray | None = None  # of the last window's body
        self._body = Body()
        self._pace = Pace()
        self._mounts: dict[str, np.ndarray] = {}  # T_base_cam by which the cameras last carried the body

    def note(self, frame_set: FrameSet) -> None:
        """Of a set that enters the window: which views belong together, and where the robot's own odometry had them.

        Views of sets that were not noted belong together if they have one stamp.
        """
        for frame in frame_set.frames:
            key = frame.camera, frame.stamp_ns
            self._set[key] = frame_set.stamp_ns
            if frame.T_odom_base is not None:
                self._given[key] = frame.T_odom_base

    def step(
        self,
        views: Sequence[WindowView],
        T_cam_world: Tensor,
        K: Tensor,
        depth: Tensor,
        confidence: Tensor,
        colours: Tensor,
        T_base_cam: Mapping[str, np.ndarray],
        sources: Sequence[str] = SOURCES,
        metres: Tensor | None = None,
        ranges: np.ndarray | None = None,
        error_growth: float = UNLEARNT,
        noise: np.ndarray = UNKNOWN,
        missed: bool = False,
    ) -> TrackedWindow:
        """Place the window of N ``views``, T_cam_world (N, 4, 4), with depth (M, H, W) of its newest ones.

        ``K`` (N, 3, 3) in canvas pixels, ``confidence`` (M, H, W), ``colours`` (M, 3, H, W) uint8. ``T_base_cam``:
        (4, 4) of the cameras whose place is known. ``sources``: those of SOURCES that may give metres; ``metres``
        (2,): metres per unit and its deviation from a metric network; ``ranges`` (K, 4): index into the newest views,
        pixel u, v of the canvas, and measured depth in metres. ``error_growth``: see pose_noise; ``noise``
        (2, 2): see MotionNoise, of steps as long as the last one. ``missed``: the window before the last one is
        known not to have been usable.
        """
        keys = [(view.camera, view.stamp_ns) for view in views]
        newest = len(views) - len(depth)
        self._make_room(keys, depth)
        if missed:  # those that were in it have been in the last one since
            self._windows = {key: max(count - 1, 1) for key, count in self._windows.items()}
        mounted = np.array([view.camera in T_base_cam for view in views], dtype=np.float64)
        T_new_old = None
        if self._body.comes_late(mounted[newest:]):
            T_new_old = self._align(T_base_cam)
        memory = self._memory
        first = memory is None
        if memory is None:
            memory = self._empty(depth)
        shared = np.array([key in self._windows for key in keys], dtype=np.float64)
        connected = bool(shared.any())
        hung = self._body.step([view.camera for view in views], newest, T_base_cam, first)
        given = self._given_now(views[newest:])
        motion, bridged = IDENTITY, False
        if not first and given is not None and self._last_given is not None and mounted[newest:].any():
            motion, bridged = invert(self._last_given) @ given, True
        stamp_ns = max(view.stamp_ns for view in views)
        before = [self._windows.get(key, 0) for key in keys]
        # Whether the last window was usable the device alone knows.
        turnovers = _turnover(before), _turnover([max(count - 1, 0) for count in before])
        has_body = bool(hung["hangs"].any())
        carriers = [view.camera for view, hangs in zip(views, hung["hangs"], strict=True) if hangs]
        in_place = self._in_place({camera: T_base_cam[camera] for camera in carriers if camera in T_base_cam})
        comes_from_last = connected and T_new_old is None and in_place and not hung["kept"].any()
        pace, predicted = self._pace.step(stamp_ns, has_body, comes_from_last)
        # The motion that the last usable window shows reaches over the steps since, too. Of one such step the device
        # alone knows; of those before it the innovation tells.
        (noise, larger), (noise_after, larger_after) = at_pace(noise, pace), at_pace(noise, 2 * max(pace, 1.0))
        group = np.unique([self._set.get(key, key[1]) for key in keys], return_inverse=True)[1]
        pairs, partners = known_ways(group, mounted, np.array([key in self._given for key in keys], dtype=np.float64))
        facts = Facts(
            row=np.array([*(self._row[key] for key in keys), self._rows]),
            shared=np.append(shared, 1.0),
            mounted=mounted,
            pairs=pairs,
            partners=partners,
            T_given_base=np.stack([self._given.get(key, IDENTITY) for key in keys]),
            content=np.array([view.view.content for view in views[newest:]], dtype=np.float64),
            ranges=_padded(ranges),
            elapsed_s=np.array(0.0 if first else (stamp_ns - self._stamp_ns) / 1e9),
            error_growth=np.array(error_growth),
            pace=np.array(pace),
            by_last=np.column_stack([turnovers, np.reshape([noise, noise_after], (2, 4))]),
            unforeseen=np.array(float(not predicted)),
            motion=motion,
            **hung,
        )
        layout = FactsLayout(len(views), len(depth))
        if metres is None:
            sources = [source for source in sources if source != "metric_model"]

        def program(*inputs: Tensor) -> tuple:
            memory = Memory(*inputs[: len(Memory._fields)])
            beside = self._programs.beside
            return advance(self._filter, sources, layout, beside, memory, *inputs[len(Memory._fields) :])

        given_metres = self._no_metres if metres is None else metres
        inputs = facts.pack(self._device), T_cam_world, K, depth, confidence, colours, given_metres
        after, step = self._programs.run("track " + " ".join(sources), program, *memory, *inputs)
        self._memory = after
        self._newest = [self._row[key] for key in keys[newest:]]
        self._windows = {key: count + 1 for key, count in zip(keys, before, strict=True)}
        self._stamp_ns = stamp_ns
        if mounted[newest:].any() or not T_base_cam:  # else the body stays where it was
            self._last_given = given
        return TrackedWindow(
            step.T_odom_cam,
            step.T_body if mounted[newest:].any() else None,
            step.metres,
            step.metric,
            step.depth,
            step.weight,
            step.report,
            error_growth,
            predicted,
            np.stack([larger, larger_after]),
            first,
            connected,
            bridged,
            given,
            T_new_old,
        )

    def exclude(self, dynamic: Tensor) -> None:
        """Take pixels of the last step's newest views, (M, P) bool of their coarse maps, out of later alignments."""
        assert self._memory is not None
        rows, weight = self._index(self._newest), self._memory.weight
        still = torch.where(dynamic, 0.0, weight.index_select(0, rows))
        self._memory = self._memory._replace(weight=weight.index_copy(0, rows, still))

    def _align(self, T_base_cam: Mapping[str, np.ndarray]) -> np.ndarray:
        """Lay odom onto a rig that has come late, see TrackedWindow.T_new_old."""
        T_new_old = self._body.align(T_base_cam)
        if T_new_old is None:
            self._memory, self._windows, self._body = None, {}, Body()
            return np.full((4, 4), np.nan)
        assert self._memory is not None
        self._memory = realigned(self._memory, pinned(T_new_old, self._device).to(self._device, non_blocking=True))
        return T_new_old

    def _in_place(self, mounts: Mapping[str, np.ndarray]) -> bool:
        """Whether the cameras that carry the body are where they were when they last did; else the body has moved by
        what was published anew, and they have not."""
        same = all(np.array_equal(T, self._mounts.get(camera, T)) for camera, T in mounts.items())
        self._mounts.update(mounts)
        return same

    def _index(self, rows: Sequence[int]) -> Tensor:
        return pinned_indices(tuple(rows), self._device).to(self._device, non_blocking=True)

    def _make_room(self, keys: Sequence[ViewKey], depth: Tensor) -> None:
        """Rows for the views of this window; what left it is forgotten, and so are maps of another size."""
        if self._memory is not None and self._memory.depth.shape[1] != _pixels(depth):
            self._memory = self._memory._replace(**self._maps(depth))
            self._row, self._windows = {}, {}
        self._row = {key: row for key, row in self._row.items() if key in keys}
        self._windows = {key: count for key, count in self._windows.items() if key in keys}
        self._set = {key: stamp for key, stamp in self._set.items() if key in keys}
        self._given = {key: T for key, T in self._given.items() if key in keys}
        free = iter(sorted(set(range(self._rows)) - set(self._row.values())))
        for key in keys:
            if key not in self._row:
                self._row[key] = next(free)

    def _empty(self, depth: Tensor) -> Memory:
        scale = unknown_scale(self._device)
        identity = torch.eye(4, dtype=torch.float64, device=self._device)
        poses = identity.repeat(self._rows, 1, 1)
        return Memory(
            poses=poses, **self._maps(depth), body=identity, steady=identity.clone(),
            motion=identity.clone(), centre=identity[:3, 3].clone(),
            arms=torch.zeros_like(identity).repeat(self._rows, 1, 1), windows=identity.new_zeros(self._rows + 1),
            found=torch.zeros((), dtype=torch.bool, device=self._device),
            usable=torch.ones((), dtype=torch.bool, device=self._device),
            log=scale.log, variance=scale.variance, misfits=scale.misfits, idle=scale.idle,
            age=scale.age,
        )  # fmt: skip

    def _maps(self, depth: Tensor) -> dict[str, Tensor]:
        shape = self._rows, _pixels(depth)
        return {"depth": torch.ones(shape, device=self._device), "weight": torch.zeros(shape, device=self._device)}

    def _given_now(self, newest: Sequence[WindowView]) -> np.ndarray | None:
        """Where the robot's odometry had the body of the newest set."""
        found = [self._given[key] for view in newest if (key := (view.camera, view.stamp_ns)) in self._given]
        return found[-1] if found else None


def _pixels(depth: Tensor) -> int:
    """Of the thumbnail of a depth map (..., H, W)."""
    height, width = depth.shape[-2:]
    rows, columns = thumbnail_grid(height, width)
    return len(range(height)[rows]) * len(range(width)[columns])


def _turnover(before: Sequence[int]) -> float:
    """Share of the shared views that become established, by how many windows ``before`` each view's pose comes from.

    Only what stays in the window hands its error on; a set that leaves again at once does not.
    """
    settled = min(_ESTABLISHED, max(before) + 1)
    return sum(count + 1 == settled for count in before) / max(1, sum(count > 0 for count in before))


def _padded(ranges: np.ndarray | None) -> np.ndarray:
    padded = np.full((MOST_RANGES, 4), np.nan)
    if ranges is not None and len(ranges):
        chosen = ranges[:: -(-len(ranges) // MOST_RANGES)]
        padded[: len(chosen)] = chosen
    return padded
