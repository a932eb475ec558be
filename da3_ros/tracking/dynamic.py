"""Surfaces that other views contradict: what has moved, by free space.

A point that lies clearly in front of the surface that another view sees along the same ray was not there when that
view was taken. Of the newest picture these are things that came; of an old one, seen by a newer view, things that are
gone. What lies behind another view's surface is hidden in it and says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from da3_ros.streaming.programs import Programs
from da3_ros.tracking.gauge import invert_rigid

AGREES, IN_FRONT, UNKNOWN = 1, -1, 0
# Standard deviations of the depths' difference beyond which a surface is another one: with fewer, the noise of a weak
# network is taken for motion, with more, what it sees only dimly in front of the scene is missed.
_SPREADS = 1.5
# In the search for what moves a region decides: of its pixels that contradict by the lower number of deviations, so
# many must do so by the higher one as well. Noise that lies about the threshold seldom does; all that shows of a thing
# is taken then, and not only where noise happens to bring it forward. Pixels of the coarse maps along a region's side.
_CLEARLY, _VAGUELY = 1.35, 0.75
_REGION, _CLEAR_SHARE = 7, 0.6
_MAD_TO_STDDEV = 1.4826


class _Meeting(NamedTuple):
    """Points of views (..., h, w) where other ones see them, by depth in the other ones."""

    z: Tensor
    near: Tensor  # nearest and farthest surface of the other view about it
    far: Tensor
    known: Tensor  # bool: the other view shows something there
    spread: Tensor  # (..., 1, 1) robust standard deviation of the logarithms of the pair's depth ratios

    def verdict(self, tolerance: float, spreads: float) -> Tensor:
        """As compare_surfaces, where ``spreads`` deviations count if they are more than ``tolerance``."""
        noise = torch.exp(spreads * self.spread)
        low = torch.minimum(1 / noise, torch.full_like(noise, 1 - tolerance)) * self.near
        in_front = self.known & (self.z < low)
        agrees = self.known & (self.z >= low) & (self.z <= noise.clamp(min=1 + tolerance) * self.far)
        return agrees.to(torch.int8) * AGREES + in_front.to(torch.int8) * IN_FRONT


def compare_surfaces(
    depth: Tensor, K: Tensor, other: Tensor, K_other: Tensor, T_other_this: Tensor, tolerance: float
) -> Tensor:
    """What a view says of each pixel of another one, int8: AGREES, IN_FRONT of its surface, or UNKNOWN.

    ``depth`` (..., h, w) of the views asked about, ``other`` (..., H, W) of those that are asked, K (..., 3, 3) each,
    T_other_this (..., 4, 4); leading dimensions are broadcast. Depth that is not finite and positive is unknown; it
    may be +Inf for sky in ``other``, in front of which is all else. ``tolerance`` is relative. Surfaces are compared
    with the nearest of the 3 x 3 pixels about the point for IN_FRONT, since edges of objects are not where they seem.
    Two maps contradict each other only by what stands out of their own noise: where the depths of a pair of views
    spread by more than ``tolerance``, that counts. No host synchronization.
    """
    return _meet(depth, K, other, K_other, T_other_this).verdict(tolerance, _SPREADS)


def _meet(depth: Tensor, K: Tensor, other: Tensor, K_other: Tensor, T_other_this: Tensor) -> _Meeting:
    near, far = _around(other)
    height, width = depth.shape[-2:]
    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=depth.device),
        torch.arange(width, dtype=torch.float32, device=depth.device),
        indexing="ij",
    )
    K, K_other, T = K.float()[..., None, None], K_other.float()[..., None, None], T_other_this.float()[..., None, None]
    valid = (depth > 0) & (depth < torch.inf)
    z0 = torch.where(valid, depth.float(), 1.0)
    x0, y0 = (u - K[..., 0, 2, :, :]) / K[..., 0, 0, :, :] * z0, (v - K[..., 1, 2, :, :]) / K[..., 1, 1, :, :] * z0
    # Sums of products: matrix products may be set to TF32 on CUDA, which has 11 bits.
    x, y, z = (
        T[..., row, 0, :, :] * x0 + T[..., row, 1, :, :] * y0 + T[..., row, 2, :, :] * z0 + T[..., row, 3, :, :]
        for row in range(3)
    )
    front = z > 1e-3
    z = torch.where(front, z, 1.0)
    column = (K_other[..., 0, 0, :, :] * x / z + K_other[..., 0, 2, :, :]).round()
    row = (K_other[..., 1, 1, :, :] * y / z + K_other[..., 1, 2, :, :]).round()
    high, wide = other.shape[-2:]
    inside = valid & front & (column >= 0) & (column < wide) & (row >= 0) & (row < high)
    index = torch.where(inside, row * wide + column, 0.0).long().flatten(-2)
    lead = np.broadcast_shapes(index.shape[:-1], near.shape[:-2])  # torch's own takes a millisecond
    index = index.expand(*lead, -1)
    near, far = (
        part.flatten(-2).expand(*lead, -1).gather(-1, index).unflatten(-1, (height, width)) for part in (near, far)
    )
    known = inside & (near > 0)
    return _Meeting(z, near, far, known, _spread(torch.where(known, z / (near * far).sqrt(), torch.nan)))


def _spread(ratio: Tensor) -> Tensor:
    """Robust standard deviation (..., 1, 1) of the logarithms of ratios (..., h, w); 0 where all are NaN."""
    log = ratio.log().flatten(-2)
    off = (log - log.nanmedian(-1, keepdim=True).values).abs()
    return (_MAD_TO_STDDEV * off.nanmedian(-1, keepdim=True).values).nan_to_num(0.0)[..., None]


def _around(depth: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest and farthest depth of the 3 x 3 pixels about each; 0 where any of them is unknown."""
    maps = depth.float().flatten(0, -3)[:, None] if depth.dim() > 2 else depth.float()[None, None]
    unknown = ~(maps > 0)  # NaN too
    near = -F.max_pool2d(-torch.where(unknown, 0.0, maps), 3, 1, 1)
    far = F.max_pool2d(torch.where(unknown, 0.0, maps), 3, 1, 1)
    return near.view(depth.shape), far.view(depth.shape)


class _Seen(NamedTuple):
    """V views of older sets, one set after the other."""

    depth: Tensor  # (V, h, w) metres, NaN where something moved or nothing is known
    K: Tensor  # (V, 3, 3)
    T_odom_cam: Tensor  # (V, 4, 4) float64


class DynamicFilter:
    """Compares the newest views with ``references`` older sets, ``spacing_s`` apart; on the device, without waiting.

    Not thread-safe. Depth is coarse: every so manieth pixel of the network's. ``programs``, of its own, run it.
    """

    def __init__(self, tolerance: float, programs: Programs, references: int = 4, spacing_s: float = 0.3):
        self._tolerance = tolerance
        self._references = references
        self._spacing_ns = int(spacing_s * 1e9)
        self._programs = programs
        self.reset()

    def reset(self) -> None:
        """Forget all views, as where tracking was lost."""
        self._seen: _Seen | None = None
        self._sets: tuple[int, ...] = ()  # how many views each older set has
        self._stamp_ns = 0  # of the newest of them

    def step(
        self, stamp_ns: int, depth: Tensor, K: Tensor, T_odom_cam: Tensor, growth: Tensor, shift: Tensor
    ) -> Tensor:
        """Which pixels of the newest M views, depth (M, h, w) in metres, show what was not there before: bool.

        ``K`` (M, 3, 3) of the coarse grid, ``T_odom_cam`` (M, 4, 4). A correction of the scale has put a place p that
        is remembered in odom to ``growth`` () p + ``shift`` (3,). A pixel is dynamic if two older sets
        contradict it, or the only one there is, and more than agree; if most of its neighbours are, too; and if its
        region clearly does so. The next step may overwrite it.
        """
        if self._seen is not None and self._seen.depth.shape[-2:] != depth.shape[-2:]:
            self.reset()
        remember = self._seen is None or stamp_ns - self._stamp_ns >= self._spacing_ns
        sets, forget = self._sets, 0
        if remember:
            if len(sets) == self._references:
                forget = sets[0]
            self._stamp_ns = stamp_ns
            self._sets = (*sets, len(depth))[-self._references :]

        def program(depth: Tensor, K: Tensor, T_odom_cam: Tensor, growth: Tensor, shift: Tensor, *seen: Tensor):
            now = _Seen(depth, K, T_odom_cam.double())
            old = _grown(_Seen(*seen), growth, shift) if seen else None
            dynamic = _moving(now, old, sets, self._tolerance)
            if remember:
                still = torch.where(dynamic, torch.nan, depth)
                now = _Seen(still, K.clone(), now.T_odom_cam.clone())  # what was given may be overwritten
                older = [] if old is None else [_Seen(*(part[forget:] for part in old))]
                old = _Seen(*map(torch.cat, zip(*older, now, strict=True)))
            return dynamic, old

        inputs = depth, K, T_odom_cam, growth, shift, *(self._seen or ())
        name = f"moving {sets} {remember}"
        # Nothing else may run in these programs: what is remembered lies in their buffers until the next step.
        dynamic, self._seen = self._programs.run(name, program, *inputs)
        return dynamic


def _moving(now: _Seen, old: _Seen | None, sets: Sequence[int], tolerance: float) -> Tensor:
    """Which pixels (M, h, w) of views of now are dynamic, by ``old`` ones of ``sets`` with so many views each."""
    if old is None:
        return torch.zeros_like(now.depth, dtype=torch.bool)
    T_old_new = invert_rigid(old.T_odom_cam)[None] @ now.T_odom_cam[:, None]  # (M, V, 4, 4)
    meeting = _meet(now.depth[:, None], now.K[:, None], old.depth[None], old.K[None], T_old_new)
    vaguely, clearly = (_contradicted(meeting.verdict(tolerance, spreads), sets) for spreads in (_VAGUELY, _CLEARLY))
    vaguely = vaguely | clearly
    shares = F.avg_pool2d(torch.stack([vaguely, clearly], 1).float(), _REGION, 1, _REGION // 2)
    return vaguely & (shares[:, 1] >= _CLEAR_SHARE * shares[:, 0])


def _contradicted(says: Tensor, sets: Sequence[int]) -> Tensor:
    """Pixels (M, h, w) that older sets contradict, by what each of their views ``says`` (M, V, h, w)."""
    against = torch.zeros(says[:, 0].shape, device=says.device)
    agreed = torch.zeros_like(against)
    for votes in says.split(list(sets), dim=1):
        # One set has one vote: a camera that agrees outweighs another that sees past an edge.
        agrees = (votes == AGREES).any(1)
        agreed += agrees
        against += (votes == IN_FRONT).any(1) & ~agrees
    voted = (against > agreed) & (against >= min(2, max(1, len(sets))))
    return F.avg_pool2d(voted.float()[:, None], 3, 1, 1, count_include_pad=False)[:, 0] > 0.5


def _grown(seen: _Seen, growth: Tensor, shift: Tensor) -> _Seen:
    T = seen.T_odom_cam.clone()
    T[:, :3, 3] = growth * T[:, :3, 3] + shift
    return seen._replace(depth=seen.depth * growth.to(seen.depth.dtype), T_odom_cam=T)
