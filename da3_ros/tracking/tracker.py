"""Every window's own gauge into one continuous frame, step by step.

For each step: the unit of the new window from depth and baselines of the views that it shares with the last one
(depth_scale, scale_sources), corrected slowly by the sources of metric scale (scale_filter); then the rigid
transform that lays the shared views on the poses that they have in odom (rigid); then one body pose out of all
cameras of the newest set. All of it is tensors on the window's device and waits for nothing; the host decides only
which views are shared, which it knows from their stamps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from da3_ros.datatypes import WindowView
from da3_ros.geometry.se3 import T_BODY_OPTICAL
from da3_ros.tracking.depth_scale import ScaleRatio, depth_ratio
from da3_ros.tracking.gauge import anchor_window, invert_rigid
from da3_ros.tracking.rigid import blend, fit_rigid, mean_pose, misfit
from da3_ros.tracking.scale_filter import ScaleFilter, ScaleState, combine, unknown_scale
from da3_ros.tracking.scale_sources import ScaleMeasurement, scale_from_vectors

# Depth of a view is compared on about this many pixels a side: more would only repeat the same errors.
_THUMBNAIL = 64
# Baselines below this share of the scene's depth are noise of the poses, not a measure of length.
_SHORTEST_BASELINE = 0.01

ViewKey = tuple[str, int]  # camera, stamp_ns


@dataclass(frozen=True)
class TrackedWindow:
    """What a step made of its window. Tensors are on the window's device, float64 unless said.

    Where ``connected`` is false no view was shared with the window before: its newest body pose is taken to be the
    last one known, and the scale is kept.
    """

    T_odom_cam: Tensor  # (N, 4, 4)
    T_odom_base: Tensor | None  # (4, 4) of the newest set; None where no camera's place on the robot is known
    scale: ScaleState
    connected: bool
    carried: Tensor  # () bool: the scale came from the last window; false: it was kept
    steady: Tensor  # () share of the shared depth that agrees: low with moving objects
    baseline: Tensor  # () longest baseline among shared views over the median depth: ~0 in pure rotation
    step_variance: Tensor  # (2,) of the fit to the last window: rotation (rad^2), translation (m^2), for each axis
    body_misfit: Tensor  # (C, 6) of each placed camera of the newest set against the body, see rigid.misfit


class Tracker:
    """Keeps what the windows have in common. Not thread-safe; ``reset`` forgets everything."""

    def __init__(self, scale_filter: ScaleFilter, device: torch.device):
        self._filter = scale_filter
        self._device = device
        self.reset()

    def reset(self) -> None:
        """As after a backward clock jump: the next window is the first one."""
        self._scale = unknown_scale(self._device)
        self._rows: dict[ViewKey, int] = {}  # view -> row of _poses
        self._estimates: dict[ViewKey, int] = {}  # how many windows its pose comes from
        self._poses: Tensor | None = None  # (N, 4, 4) T_odom_cam of the last window
        self._last_body: Tensor | None = None  # (4, 4) T_odom_base, or T_odom_cam of its newest view without a rig
        self._depth: dict[ViewKey, Tensor] = {}  # view -> (h, w) metres
        self._stamp_ns = 0

    def step(
        self,
        views: Sequence[WindowView],
        T_cam_world: Tensor,
        decoded: Sequence[int],
        depth: Tensor,
        confidence: Tensor | None,
        T_base_cam: Mapping[str, np.ndarray],
        measurements: Sequence[ScaleMeasurement] = (),
    ) -> TrackedWindow:
        """Place the window of N ``views``, T_cam_world (N, 4, 4), with depth (M, H, W) of the ``decoded`` ones.

        ``confidence`` (M, H, W) weighs the depth. ``T_base_cam``: (4, 4) of the cameras whose place is known.
        ``measurements``: what sources say of this window's metres per unit.
        """
        keys = [(view.camera, view.stamp_ns) for view in views]
        T_world_cam = invert_rigid(T_cam_world.double())
        thumbnails, weights = _thumbnails(depth), None if confidence is None else _thumbnails(confidence)
        shared = [index for index, key in enumerate(keys) if key in self._rows]
        connected = bool(shared)
        stored = self._stored([keys[index] for index in shared])
        local = T_world_cam[self._index(shared)]

        ratio, baseline = self._ratio(keys, decoded, thumbnails, weights, stored, local)
        stamp_ns = max(view.stamp_ns for view in views)
        elapsed_s = (stamp_ns - self._stamp_ns) / 1e9 if self._rows else 0.0
        scale = self._filter.carry(self._scale, ratio, elapsed_s) if self._rows else self._scale
        for measured in (self._rig_scale(views, T_world_cam, T_base_cam), *measurements):
            scale = self._filter.correct(scale, measured, elapsed_s)
        metres = scale.metres_per_unit
        T_world_cam[:, :3, 3] *= metres

        newest = [index for index, view in enumerate(views) if view.newest]
        if connected:
            local[:, :3, 3] *= metres
            fit = fit_rigid(local, stored)
            T_odom_cam = fit.T_b_a @ T_world_cam
            variance = torch.stack([fit.rotation_variance, fit.translation_variance])
        else:
            T_odom_cam = self._unconnected(views, T_world_cam, newest, T_base_cam)
            variance = torch.zeros(2, dtype=torch.float64, device=self._device)
        T_odom_cam, T_odom_base, misfits = self._body(views, newest, T_odom_cam, T_base_cam, scale.metric)

        self._rows = {key: row for row, key in enumerate(keys)}
        self._refine(keys, shared, stored, T_odom_cam)
        self._last_body = T_odom_cam[newest[-1]] if T_odom_base is None else T_odom_base
        old = {key: kept for key, kept in self._depth.items() if key in self._rows}
        self._depth = old | {keys[index]: thumbnails[row] * metres for row, index in enumerate(decoded)}
        self._scale, self._stamp_ns = scale, stamp_ns
        return TrackedWindow(
            T_odom_cam, T_odom_base, scale, connected, ratio.valid, ratio.steady, baseline, variance, misfits
        )

    def _ratio(
        self,
        keys: Sequence[ViewKey],
        decoded: Sequence[int],
        thumbnails: Tensor,
        weights: Tensor | None,
        stored: Tensor,
        local: Tensor,
    ) -> tuple[ScaleRatio, Tensor]:
        """Of this window's unit to the last one's, and the longest baseline of the shared views over the depth."""
        twice = [(row, keys[index]) for row, index in enumerate(decoded) if keys[index] in self._depth]
        rows = self._index([row for row, _ in twice])
        empty = thumbnails[:0]
        # Metres / (this window's unit), less what the last window's were: depth is kept in metres.
        earlier = torch.stack([self._depth[key] for _, key in twice]) if twice else empty
        by_depth = depth_ratio(earlier, thumbnails[rows], None if weights is None else weights[rows])
        by_depth = _relative_to(by_depth, self._scale)

        centre = stored[:, :3, 3]
        known = torch.cdist(centre[None], centre[None])[0]
        typical = torch.nanmedian(thumbnails.double()) * torch.exp(self._scale.log + by_depth.log)
        longest = known.amax() if len(stored) else torch.zeros((), dtype=torch.float64, device=self._device)
        baseline = longest / typical.clamp(min=1e-9)
        vectors = scale_from_vectors(_between(stored), _between(local), len(stored) - 1, equally_noisy=True)
        valid = vectors.valid & ~(baseline < _SHORTEST_BASELINE)
        by_baseline = ScaleRatio(
            torch.where(valid, vectors.log - self._scale.log, 0.0),
            torch.where(valid, vectors.variance, torch.inf),
            valid,
            torch.ones_like(by_depth.steady),
        )
        return combine([by_depth, by_baseline]), baseline

    def _rig_scale(self, views: Sequence[WindowView], T_world_cam: Tensor, T_base_cam: Mapping) -> ScaleMeasurement:
        """From the distances between the cameras of each set."""
        pairs = [
            (i, j)
            for i, first in enumerate(views)
            for j, second in enumerate(views[i + 1 :], i + 1)
            if first.stamp_ns == second.stamp_ns and first.camera in T_base_cam and second.camera in T_base_cam
        ]
        rows = self._index([i for pair in pairs for i in pair]).view(-1, 2)
        mounts = self._matrix(np.array([T_base_cam[views[i].camera] for pair in pairs for i in pair]).reshape(-1, 4, 4))
        known, predicted = mounts.view(-1, 2, 4, 4), T_world_cam[rows]
        return scale_from_vectors(_apart(known), _apart(predicted), len({i for pair in pairs for i in pair}) - 1)

    def _unconnected(
        self, views: Sequence[WindowView], T_world_cam: Tensor, newest: Sequence[int], T_base_cam: Mapping
    ) -> Tensor:
        """The first window, with the body at odom's origin, or one that shares nothing: the body stays where it was."""
        if self._last_body is None:
            first = T_base_cam.get(views[0].camera, T_BODY_OPTICAL)
            return anchor_window(invert_rigid(T_world_cam), self._matrix(first))
        index = next((i for i in newest if views[i].camera in T_base_cam), newest[-1])
        mount = T_base_cam.get(views[index].camera, np.eye(4))
        return self._last_body @ self._matrix(mount) @ invert_rigid(T_world_cam[index]) @ T_world_cam

    def _body(
        self,
        views: Sequence[WindowView],
        newest: Sequence[int],
        T_odom_cam: Tensor,
        T_base_cam: Mapping,
        metric: Tensor,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Poses with the newest set's cameras held together by the rig, the body's pose, and what they differ by.

        The rig is in metres: without a ``metric`` scale its cameras keep their own poses, and the first one leads.
        """
        placed = [index for index in newest if views[index].camera in T_base_cam]
        if not placed:
            return T_odom_cam, None, torch.zeros((0, 6), dtype=torch.float64, device=self._device)
        mounts = self._matrix(np.stack([T_base_cam[views[index].camera] for index in placed]))
        rows = self._index(placed)
        each = T_odom_cam[rows] @ invert_rigid(mounts)
        T_odom_base = torch.where(metric, mean_pose(each).T_b_a, each[0])
        held = torch.where(metric, T_odom_base @ mounts, T_odom_cam[rows])
        return T_odom_cam.index_copy(0, rows, held), T_odom_base, misfit(each, T_odom_base)

    def _refine(self, keys: Sequence[ViewKey], shared: Sequence[int], stored: Tensor, T_odom_cam: Tensor) -> None:
        """Remember the poses; that of a view seen before becomes the mean of all its estimates.

        A single window's noise then moves the frame by little; were the first estimate kept for ever, its noise
        would be passed on to every later view.
        """
        seen = {keys[index]: self._estimates[keys[index]] + 1 for index in shared}
        self._estimates = {key: seen.get(key, 1) for key in keys}
        if shared:
            rows = self._index(shared)
            share = self._upload([1.0 / seen[keys[index]] for index in shared], torch.float64)
            T_odom_cam = T_odom_cam.index_copy(0, rows, blend(stored, T_odom_cam[rows], share))
        self._poses = T_odom_cam

    def _stored(self, keys: Sequence[ViewKey]) -> Tensor:
        if not keys or self._poses is None:
            return torch.empty((0, 4, 4), dtype=torch.float64, device=self._device)
        return self._poses[self._index([self._rows[key] for key in keys])]

    def _index(self, rows: Sequence[int]) -> Tensor:
        return self._upload(rows, torch.int64)

    def _matrix(self, T: np.ndarray) -> Tensor:
        return self._upload(T, torch.float64)

    def _upload(self, values: Sequence[float] | np.ndarray, dtype: torch.dtype) -> Tensor:
        """From pinned memory, so that it does not wait."""
        host = torch.tensor(values, dtype=dtype)
        return host.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else host


def _thumbnails(maps: Tensor) -> Tensor:
    """Maps (M, H, W) at every so manieth pixel."""
    step = max(1, max(maps.shape[-2:]) // _THUMBNAIL)
    return maps[:, step // 2 :: step, step // 2 :: step].float()


def _relative_to(ratio: ScaleRatio, scale: ScaleState) -> ScaleRatio:
    """A ratio of metres to units as one of units to the last window's units."""
    return ScaleRatio(torch.where(ratio.valid, ratio.log - scale.log, 0.0), ratio.variance, ratio.valid, ratio.steady)


def _between(T: Tensor) -> Tensor:
    """Displacement (K, 3) of every later view from every earlier one, of poses (V, 4, 4), in the earlier one's axes."""
    first, second = torch.triu_indices(len(T), len(T), offset=1, device=T.device)
    return _apart(torch.stack([T[first], T[second]], dim=1))


def _apart(T: Tensor) -> Tensor:
    """Displacement (K, 3) of the second of each pair of poses (K, 2, 4, 4), in the first one's axes."""
    return ((T[:, 1, :3, 3] - T[:, 0, :3, 3])[:, None] @ T[:, 0, :3, :3])[:, 0]
