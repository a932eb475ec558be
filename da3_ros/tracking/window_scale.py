"""What a window says of its unit: coarse depth and displacements against what is remembered, and the sources of metres.

Parts of the arithmetic of a tracking step (window_program): tensors in, tensors out, no wait and no branch on data.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from da3_ros.tracking.depth_scale import NewViews, OldViews, Overlay, ScaleRatio, scale_by_depth
from da3_ros.tracking.gauge import invert_rigid
from da3_ros.tracking.numbers import numbers
from da3_ros.tracking.rigid import weighted_median
from da3_ros.tracking.scale_filter import combine
from da3_ros.tracking.scale_sources import (
    SOURCES,
    ScaleMeasurement,
    scale_from_metres,
    scale_from_ranges,
    scale_from_vectors,
)

# Depth is remembered on at most about this many pixels a side: more would only repeat the same errors.
THUMBNAIL = 32
# Baselines below this share of the scene's depth are noise of the poses, not a measure of length.
SHORTEST_BASELINE = 0.01
# A newest set whose neighbouring blocks of pixels differ by less (grey levels, on average) shows the network nothing.
# Noise of s levels for a pixel leaves 4 / sqrt(pi) * s / 8, so that of a sensor (s below 7) does not pass for texture.
LEAST_TEXTURE = 2.0
_BLOCK = 8  # pixels
_LEAST_WEIGHT = 1e-3  # of a valid pixel: where the network is sure of nothing, all pixels count alike


def thumbnail_grid(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of an image of H x W pixels that its thumbnail has."""
    step = -(-max(height, width) // THUMBNAIL)
    return slice(step // 2, None, step), slice(step // 2, None, step)


def _thumbnails(depth: Tensor, confidence: Tensor, content: Tensor, usable: Tensor) -> tuple[Tensor, Tensor]:
    """Coarse depth (M, P) in the window's unit and weights (M, P), 0 where depth has no meaning, in a window that is
    not ``usable`` () everywhere."""
    height, width = depth.shape[-2:]
    rows, columns = thumbnail_grid(height, width)
    y, x = _pixels(height, width, depth.device)
    start, extent = content[..., None].split(2, dim=1)  # (M, 2, 1)
    (top, left), (bottom, right) = start.unbind(1), (start + extent).unbind(1)
    inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None]
    z, c = depth[:, rows, columns].float(), confidence[:, rows, columns].float()
    valid = inside & (z > 0) & (z < torch.inf) & (c.abs() < torch.inf) & usable
    # Confidence is 1 + exp(...): what is above 1 is what the network is sure of.
    some = numbers(depth.device)
    weight = torch.where(valid, (c - 1.0).clamp(min=_LEAST_WEIGHT), some.zero32)
    return torch.where(valid, z, some.one32).flatten(1), weight.flatten(1)


@functools.cache
def _pixels(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows (h,) and columns (w,) float32 of an image of H x W pixels that its thumbnail has."""
    rows, columns = thumbnail_grid(height, width)
    y = torch.arange(rows.start, height, rows.step, dtype=torch.float32, device=device)
    return y, torch.arange(columns.start, width, columns.step, dtype=torch.float32, device=device)


def _rays(K: Tensor, height: int, width: int) -> Tensor:
    """Rays (N, P, 3) with z = 1 through the pixels of the thumbnails of views with K (N, 3, 3)."""
    y, x = _pixels(height, width, K.device)
    K = K.float()
    x = (x - K[:, 0, 2, None]) / K[:, 0, 0, None]
    y = (y - K[:, 1, 2, None]) / K[:, 1, 1, None]
    x, y = x[:, None, :].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])
    return torch.stack([x, y, numbers(K.device).one32.expand_as(x)], dim=-1).flatten(1, 2)


def texture_of(colours: Tensor) -> Tensor:
    """Grey levels by which neighbouring blocks of the most textured newest view differ, ()."""
    grey = F.avg_pool2d(colours[:, 1].float(), max(1, min(_BLOCK, min(colours.shape[-2:]) // 4)))
    differences = grey.diff(dim=-1).abs().mean((-2, -1)) + grey.diff(dim=-2).abs().mean((-2, -1))
    return differences.amax().double()


class Coarse(NamedTuple):
    """Coarse depth of the newest views in the window's unit, and the older ones' in metres laid into them."""

    depth: Tensor  # (M, P) float32, of the newest
    weight: Tensor  # (M, P) float32
    typical: Tensor  # () in the window's unit
    overlay: Overlay | None  # None where all views are new
    typical_old: Tensor  # () metres
    any_old: Tensor  # () bool


def coarse_depth(
    remembered: tuple[Tensor, Tensor],
    facts: dict[str, Tensor],
    row: Tensor,
    shared: Tensor,
    T_world_cam: Tensor,
    K: Tensor,
    depth: Tensor,
    confidence: Tensor,
    usable: Tensor,
) -> Coarse:
    """Of the newest views, as ``_thumbnails``; and what is ``remembered``, depth in metres and weights (R, P) each, of
    the older ones in their ``row`` (N,), which counts where they are ``shared`` (N,). ``T_world_cam`` (N, 4, 4)."""
    thumbs, weights = _thumbnails(depth, confidence, facts["content"], usable)
    unit_depth = weighted_median(thumbs.flatten(), weights.flatten()).double()
    old = len(K) - len(depth)
    if not old:
        none = numbers(depth.device).zero
        return Coarse(thumbs, weights, unit_depth, None, none, none > 0)
    depth_old = remembered[0].index_select(0, row[:old])
    weight_old = remembered[1].index_select(0, row[:old]) * shared[:old, None].float()
    metres_old = weighted_median(depth_old.flatten(), weight_old.flatten()).double()
    views = OldViews(depth_old, weight_old, _rays(K[:old], *depth.shape[-2:]))
    T_new_old = invert_rigid(T_world_cam[old:])[:, None] @ T_world_cam[:old]
    overlay = Overlay(views, NewViews(depth, K[old:], facts["content"]), T_new_old)
    return Coarse(thumbs, weights, unit_depth, overlay, metres_old, weight_old.sum() > 0)


def carried_ratio(log: Tensor, ways: Ways, coarse: Coarse) -> tuple[ScaleRatio, Tensor, Tensor, Tensor]:
    """Metres per unit by what is remembered; what the newest views see of it; longest baseline over depth; depth.

    ``log`` (): of the last window's metres per unit, where nothing tells it.
    """
    measured = ways.baselines
    if coarse.overlay is not None:
        guess = coarse.typical_old.clamp(min=1e-9).log() - coarse.typical.log()
        guess = torch.where(coarse.any_old, guess, log)
        guess = torch.where(measured.valid, measured.log, guess)
        by_depth, seen = scale_by_depth(coarse.overlay, guess)
    else:
        by_depth, seen = _nothing(log.device), numbers(log.device).zero
    guess = torch.where(by_depth.valid, by_depth.log, torch.where(measured.valid, measured.log, log))
    typical = coarse.typical * guess.exp()
    baseline = ways.longest_baseline / typical.clamp(min=1e-9)
    measured = measured.unless(baseline < SHORTEST_BASELINE)
    by_baseline = ScaleRatio(measured.log, measured.variance, measured.valid, numbers(log.device).one)
    # Without depth to compare, nothing is known of moving objects.
    by_depth = replace(by_depth, steady=torch.where(by_depth.valid, by_depth.steady, numbers(log.device).one))
    return combine([by_depth, by_baseline]), seen, baseline, typical


class Ways(NamedTuple):
    """What displacements between views say: as the last window has them, as the rig and as the robot's odometry."""

    baselines: ScaleMeasurement
    rig: ScaleMeasurement
    odometry: ScaleMeasurement
    longest_baseline: Tensor  # () metres
    longest_way: Tensor  # () in the window's unit, of those that odometry has


def compare_ways(facts: dict[str, Tensor], shared: Tensor, T_world_cam: Tensor, stored: Tensor) -> Ways:
    """The displacements of every earlier view with every later one, the three kinds of them in one go."""
    first, second, equally_noisy = _pairs(len(stored), stored.device)
    placed = facts["T_given_base"] @ facts["mount"]
    apart = _apart(torch.stack([T_world_cam, stored, facts["mount"], placed]), first, second)
    both = shared.index_select(0, first) * shared.index_select(0, second)
    both = torch.cat([both[None], facts["pairs"]])[..., None]
    known, predicted = apart[1:] * both, apart[0] * both
    independent = (torch.cat([shared.sum()[None], facts["partners"]]) - 1).clamp(min=1.0)
    baselines, rig, odometry = scale_from_vectors(known, predicted, independent, equally_noisy).unbind()
    lengths = F.pad(torch.stack([known[0], predicted[2]]).norm(dim=-1), (0, 1))  # 0 where there is but one view
    longest_baseline, longest_way = lengths.amax(-1).unbind()
    return Ways(baselines, rig, odometry, longest_baseline, longest_way)


@functools.cache
def _pairs(views: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Indices (K,) of the earlier and of the later of each pair of views; which of the three kinds is as noisy as what
    is predicted (3,)."""
    first, second = torch.triu_indices(views, views, offset=1, device=device)
    return first, second, torch.arange(3, device=device) == 0


def measurements(
    sources: Collection[str],
    ways: Ways,
    by_ranges: ScaleMeasurement | None,
    metres: Tensor,
    unit_depth: Tensor,
) -> list[ScaleMeasurement | None]:
    """What each of SOURCES says of this window, None for those that are not among ``sources``."""
    found: dict[str, ScaleMeasurement | None] = {"range": by_ranges}
    if "rig" in sources:
        found["rig"] = ways.rig
    if "odometry" in sources:
        # A way that is short against the depth shows the poses' noise and the odometer's, not their scale.
        found["odometry"] = ways.odometry.unless(ways.longest_way < SHORTEST_BASELINE * unit_depth)
    if "metric_model" in sources:
        found["metric_model"] = scale_from_metres(metres[0], metres[1])
    return [found.get(source) for source in SOURCES]


def measured_by_ranges(sources: Collection[str], facts: dict[str, Tensor], depth: Tensor) -> ScaleMeasurement | None:
    """What measured ranges say against ``depth`` (M, H, W) of the newest views; None where they are no source."""
    return scale_from_ranges(*_at_ranges(facts["ranges"], depth)) if "range" in sources else None


def _at_ranges(ranges: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Measured metres (K,) and the predicted depth (K,) at their pixels; both NaN where there is none."""
    height, width = depth.shape[-2:]
    view, u, v = torch.nan_to_num(ranges[:, :3]).round().long().unbind(-1)
    index = (view * height + v.clamp(0, height - 1)) * width + u.clamp(0, width - 1)
    return ranges[:, 3], depth.flatten().index_select(0, index)


def _nothing(device: torch.device) -> ScaleRatio:
    zero = torch.zeros((), dtype=torch.float64, device=device)
    return ScaleRatio(zero, zero + torch.inf, zero > 0, zero + 1.0)


def _apart(T: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Displacement (..., K, 3) of the second of each pair of poses (..., N, 4, 4) from the first, in its axes."""
    a, b = T.index_select(-3, first), T.index_select(-3, second)
    return ((b[..., :3, 3] - a[..., :3, 3])[..., None, :] @ a[..., :3, :3])[..., 0, :]


def relative(ratio: ScaleRatio, log: Tensor) -> ScaleRatio:
    """Metres per unit as the factor from the last window's, whose logarithm is ``log`` ()."""
    return replace(ratio, log=torch.where(ratio.valid, ratio.log - log, numbers(log.device).zero))
