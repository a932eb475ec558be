"""The arithmetic of one tracking step: tensors in, tensors out, no wait and no branch on data.

It can therefore be captured as one CUDA graph for each number of views. Everything that was there before comes in as
``Memory`` and goes out as a new one; what the host knows comes in as one packed tensor (facts).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from da3_ros.tracking.depth_scale import NewViews, OldViews, ScaleRatio, scale_by_depth
from da3_ros.tracking.facts import FactsLayout
from da3_ros.tracking.gauge import invert_rigid
from da3_ros.tracking.rigid import RigidFit, blend, fit_rigid, mean_pose, misfit, weighted_median
from da3_ros.tracking.scale_filter import ScaleFilter, ScaleState, combine
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
# A newest set whose neighbouring pixels differ by less (grey levels, on average) shows the network nothing.
LEAST_TEXTURE = 1.0
_LEAST_WEIGHT = 1e-3  # of a valid pixel: where the network is sure of nothing, all pixels count alike


class Memory(NamedTuple):
    """What one window leaves to the next; R rows, one for each view that a window can hold."""

    poses: Tensor  # (R, 4, 4) float64 T_odom_cam
    depth: Tensor  # (R, P) float32 metres, of the view's thumbnail
    weight: Tensor  # (R, P) float32
    body: Tensor  # (4, 4) float64 T_odom_base of the newest set; T_odom_cam of its first view without a rig
    log: Tensor  # of ScaleState, as are the next three
    variance: Tensor
    misfits: Tensor
    idle: Tensor


class Step(NamedTuple):
    """What a step says of its window; float64 tensors."""

    T_odom_cam: Tensor  # (N, 4, 4)
    T_body: Tensor  # (4, 4) see Memory.body
    metres: Tensor  # () metres per unit
    metric: Tensor  # () bool: whether any source has ever given metres
    depth: Tensor  # (M, P) float32 metres, thumbnails of the newest views
    weight: Tensor  # (M, P) float32
    report: Tensor  # (len(REPORT) + 3 S + 6 M,), see TrackReport


REPORT = (
    "log_scale", "scale_variance", "carried", "steady", "seen", "baseline", "texture", "median_depth",
    "rotation_variance", "translation_variance", "view_rotation_variance", "view_translation_variance",
    "growth",
)  # fmt: skip


def thumbnail_grid(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of an image of H x W pixels that its thumbnail has."""
    step = -(-max(height, width) // THUMBNAIL)
    return slice(step // 2, None, step), slice(step // 2, None, step)


def advance(
    scale_filter: ScaleFilter,
    sources: Collection[str],
    layout: FactsLayout,
    memory: Memory,
    packed: Tensor,
    T_cam_world: Tensor,
    K: Tensor,
    depth: Tensor,
    confidence: Tensor,
    colours: Tensor,
    metres: Tensor,
) -> tuple[Memory, Step]:
    """Place a window of N views, T_cam_world (N, 4, 4), with depth (M, H, W) of its newest ones.

    ``K`` (N, 3, 3) canvas pixels; ``confidence`` (M, H, W) >= 1; depth that is not finite has no meaning; ``colours``
    (M, 3, H, W) uint8; ``metres`` (2,): metres per unit and its deviation from a metric network, NaN without.
    ``sources``: those that may give metres.
    """
    facts = layout.unpack(packed)
    device, newest = T_cam_world.device, slice(len(T_cam_world) - len(depth), None)
    row, shared = facts["row"].long(), facts["shared"]
    T_world_cam = invert_rigid(T_cam_world.double())
    stored = memory.poses.index_select(0, row)

    # Scale: from the last window by common depth and baselines, then corrected by the sources.
    thumbs, weights = _thumbnails(depth, confidence, facts["content"])
    texture = _texture(colours)
    ratio, seen, baseline, typical = _carry(memory, facts, T_world_cam, stored, K, depth, thumbs, weights, newest)
    ratio = replace(ratio, valid=ratio.valid & (texture >= LEAST_TEXTURE))
    flags = torch.zeros(len(SOURCES), dtype=torch.bool, device=device)
    scale = ScaleState(memory.log, memory.variance, memory.misfits, memory.idle, flags, flags, flags)
    carried = scale_filter.carry(scale, _relative(ratio, memory.log), facts["elapsed_s"], facts["turnover"])
    scale = _choose(facts["started"] > 0, carried, scale)
    before = scale.log
    measured = _measure(sources, facts, T_world_cam, depth, metres, typical * torch.exp(-before))
    scale = scale_filter.correct(scale, measured, facts["elapsed_s"])
    unit = scale.metres_per_unit
    T_world_cam[:, :3, 3] *= unit

    # What is remembered follows a correction, about the body, whose place in odom does not move.
    growth = torch.where(facts["started"] > 0, torch.exp(scale.log - before), 1.0)
    stored = _grown(stored, memory.body, growth)

    fit = fit_rigid(T_world_cam, stored, shared)
    expected = torch.where(facts["started"] > 0, memory.body @ facts["motion"], torch.eye(4, device=device).double())
    lead = T_world_cam.index_select(0, facts["lead"].long()[None])[0]
    T_apart = expected @ facts["lead_mount"] @ invert_rigid(lead)
    T_odom_cam = torch.where(facts["connected"] > 0, fit.T_b_a, T_apart) @ T_world_cam
    T_odom_cam, body, misfits = _body(facts, T_odom_cam, scale.metric, newest)
    # A view's pose is the mean of what its windows say: one window's noise then moves the frame by little.
    T_odom_cam = torch.where((shared > 0)[:, None, None], blend(stored, T_odom_cam, facts["share"]), T_odom_cam)

    grown = growth.float()
    kept = memory.depth * grown
    after = Memory(
        memory.poses.index_copy(0, row, T_odom_cam),
        kept.index_copy(0, row[newest], (thumbs * unit).float()),
        memory.weight.index_copy(0, row[newest], weights),
        body, scale.log, scale.variance, scale.misfits, scale.idle,
    )  # fmt: skip
    report = _report(scale, ratio, seen, baseline, texture, typical * growth, fit, shared, growth, misfits)
    return after, Step(T_odom_cam, body, unit, scale.metric, (thumbs * unit).float(), weights, report)


def _thumbnails(depth: Tensor, confidence: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """Coarse depth (M, P) in the window's unit and weights (M, P), 0 where depth has no meaning."""
    height, width = depth.shape[-2:]
    rows, columns = thumbnail_grid(height, width)
    y, x = torch.arange(height, device=depth.device)[rows], torch.arange(width, device=depth.device)[columns]
    top, left, high, wide = content[..., None].unbind(1)  # (M, 1)
    inside = ((y >= top) & (y < top + high))[:, :, None] & ((x >= left) & (x < left + wide))[:, None]
    z, c = depth[:, rows, columns].float(), confidence[:, rows, columns].float()
    valid = inside & torch.isfinite(z) & (z > 0) & torch.isfinite(c)
    # Confidence is 1 + exp(...): what is above 1 is what the network is sure of.
    weight = torch.where(valid, (c - 1.0).clamp(min=_LEAST_WEIGHT), 0.0)
    return torch.where(valid, z, 1.0).flatten(1), weight.flatten(1)


def _rays(K: Tensor, height: int, width: int) -> Tensor:
    """Rays (N, P, 3) with z = 1 through the pixels of the thumbnails of views with K (N, 3, 3)."""
    rows, columns = thumbnail_grid(height, width)
    y = torch.arange(height, device=K.device, dtype=torch.float32)[rows]
    x = torch.arange(width, device=K.device, dtype=torch.float32)[columns]
    K = K.float()
    x = (x - K[:, 0, 2, None]) / K[:, 0, 0, None]
    y = (y - K[:, 1, 2, None]) / K[:, 1, 1, None]
    x, y = x[:, None, :].expand(-1, y.shape[1], -1), y[:, :, None].expand(-1, -1, x.shape[1])
    return torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(1, 2)


def _texture(colours: Tensor) -> Tensor:
    """Grey levels by which neighbouring pixels of the most textured newest view differ, ()."""
    grey = colours[:, 1, ::2, ::2].float()
    differences = grey.diff(dim=-1).abs().mean((-2, -1)) + grey.diff(dim=-2).abs().mean((-2, -1))
    return differences.amax().double()


def _carry(
    memory: Memory,
    facts: dict[str, Tensor],
    T_world_cam: Tensor,
    stored: Tensor,
    K: Tensor,
    depth: Tensor,
    thumbs: Tensor,
    weights: Tensor,
    newest: slice,
) -> tuple[ScaleRatio, Tensor, Tensor, Tensor]:
    """Metres per unit by what is remembered; what the newest views see of it; longest baseline over depth; depth."""
    shared = facts["shared"]
    old = len(T_world_cam) - len(depth)
    row = facts["row"].long()[:old]
    deep = (facts["deep"] * shared)[:old]
    measured, longest = _by_baselines(stored, T_world_cam, shared)
    unit_depth = weighted_median(thumbs.double().flatten(), weights.double().flatten())
    if old:
        depth_old = memory.depth.index_select(0, row)
        weight_old = memory.weight.index_select(0, row) * deep[:, None].float()
        metres_old = weighted_median(depth_old.double().flatten(), weight_old.double().flatten())
        guess = torch.where(weight_old.sum() > 0, metres_old.clamp(min=1e-9).log() - unit_depth.log(), memory.log)
        guess = torch.where(measured.valid, measured.log, guess)
        T_new_old = invert_rigid(T_world_cam[newest])[:, None] @ T_world_cam[:old]
        views = OldViews(depth_old, weight_old, _rays(K[:old], *depth.shape[-2:]))
        by_depth, seen = scale_by_depth(views, NewViews(depth, K[newest], facts["content"]), T_new_old, guess)
    else:
        by_depth, seen = _nothing(depth.device), torch.zeros((), dtype=torch.float64, device=depth.device)
    guess = torch.where(by_depth.valid, by_depth.log, torch.where(measured.valid, measured.log, memory.log))
    typical = unit_depth * guess.exp()
    baseline = longest / typical.clamp(min=1e-9)
    measured = _unless(baseline < SHORTEST_BASELINE, measured)
    by_baseline = ScaleRatio(measured.log, measured.variance, measured.valid, torch.ones_like(measured.log))
    # Without depth to compare, nothing is known of moving objects.
    by_depth = replace(by_depth, steady=torch.where(by_depth.variance < torch.inf, by_depth.steady, 1.0))
    return combine([by_depth, by_baseline]), seen, baseline, typical


def _by_baselines(stored: Tensor, T_world_cam: Tensor, shared: Tensor) -> tuple[ScaleMeasurement, Tensor]:
    """Metres per unit from the displacements between shared views, and the longest of these in metres."""
    first, second = _pairs(len(stored), stored.device)
    both = (shared[first] * shared[second])[:, None]
    known, predicted = _apart(stored, first, second) * both, _apart(T_world_cam, first, second) * both
    independent = (shared.sum() - 1).clamp(min=1.0)
    return scale_from_vectors(known, predicted, independent, equally_noisy=True), _longest(known)


def _measure(
    sources: Collection[str],
    facts: dict[str, Tensor],
    T_world_cam: Tensor,
    depth: Tensor,
    metres: Tensor,
    unit_depth: Tensor,
) -> list[ScaleMeasurement | None]:
    """What each of SOURCES says of this window, None for those that are not among ``sources``."""
    first, second = _pairs(len(T_world_cam), T_world_cam.device)
    predicted = _apart(T_world_cam, first, second)
    group, mounted, given = facts["group"], facts["mounted"], facts["given"]
    found: dict[str, ScaleMeasurement] = {}
    if "rig" in sources:
        same_set = ((group[first] == group[second]) * mounted[first] * mounted[second])[:, None]
        rig = _apart(facts["mount"], first, second) * same_set
        members = ((group[:, None] == group) * mounted * mounted[:, None]).sum(-1) > 1
        found["rig"] = scale_from_vectors(rig, predicted * same_set, (members.sum() - 1).clamp(min=1))
    if "odometry" in sources:
        both = (given[first] * given[second] * mounted[first] * mounted[second])[:, None]
        moved = both * (group[first] != group[second])[:, None]
        way = _apart(facts["T_given_base"] @ facts["mount"], first, second) * moved
        measured = scale_from_vectors(way, predicted * moved, ((given * mounted).sum() - 1).clamp(min=1))
        # A way that is short against the depth shows the poses' noise and the odometer's, not their scale.
        found["odometry"] = _unless(_longest(predicted * moved) < SHORTEST_BASELINE * unit_depth, measured)
    if "range" in sources:
        found["range"] = scale_from_ranges(*_at_ranges(facts["ranges"], depth))
    if "metric_model" in sources:
        found["metric_model"] = scale_from_metres(metres[0], metres[1])
    return [found.get(source) for source in SOURCES]


def _at_ranges(ranges: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Measured metres (K,) and the predicted depth (K,) at their pixels, NaN where there is none."""
    view, u, v, metres = ranges.unbind(-1)
    height, width = depth.shape[-2:]
    there = torch.isfinite(metres)
    view, u, v = (torch.where(there, part, 0.0).round().long() for part in (view, u, v))
    index = (view * height + v.clamp(0, height - 1)) * width + u.clamp(0, width - 1)
    found = depth.flatten().index_select(0, index).double()
    return metres, torch.where(there, found, torch.nan)


def _body(facts: dict[str, Tensor], T_odom_cam: Tensor, metric: Tensor, newest: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Poses with the newest set's cameras held together by the rig, the body's pose, and each one's misfit (M, 6).

    The rig is in metres: without a ``metric`` scale its cameras keep their own poses, and the first placed one leads.
    Without any placed camera the first one is the body.
    """
    mounted, mount = facts["mounted"][newest], facts["mount"][newest]
    each = T_odom_cam[newest] @ invert_rigid(mount)
    first = each.index_select(0, mounted.argmax()[None])[0]  # the first of the largest
    body = first
    if len(each) > 1:
        body = torch.where(metric & (mounted.sum() > 1), mean_pose(each, mounted).T_b_a, first)
    held = torch.where((metric & (mounted > 0))[:, None, None], body @ mount, T_odom_cam[newest])
    off = torch.where((mounted > 0)[:, None], misfit(each, body), torch.nan)
    old = len(T_odom_cam) - len(mount)
    return torch.cat([T_odom_cam[:old], held]), body, off


def _report(
    scale: ScaleState,
    ratio: ScaleRatio,
    seen: Tensor,
    baseline: Tensor,
    texture: Tensor,
    typical: Tensor,
    fit: RigidFit,
    shared: Tensor,
    growth: Tensor,
    misfits: Tensor,
) -> Tensor:
    weight = fit.weights * shared
    total = weight.sum().clamp(min=1e-12)
    single = [(weight * residual.square()).sum() / total / 3 for residual in (fit.angle, fit.distance)]
    # A window's own error is part of its scale, though the next windows do not all inherit it.
    own = torch.where(ratio.valid, ratio.variance, 0.0)
    values = [
        scale.log, scale.variance + own, ratio.valid.double(), ratio.steady, seen, baseline, texture, typical,
        fit.rotation_variance, fit.translation_variance, *single, growth,
    ]  # fmt: skip
    flags = [scale.used.double(), scale.jumped.double(), scale.rejected.double()]
    return torch.cat([torch.stack(values), *flags, misfits.flatten()])


def _relative(ratio: ScaleRatio, log: Tensor) -> ScaleRatio:
    """Metres per unit as the factor from the last window's."""
    return replace(ratio, log=torch.where(ratio.valid, ratio.log - log, 0.0))


def _choose(condition: Tensor, first: ScaleState, second: ScaleState) -> ScaleState:
    log, variance = (torch.where(condition, getattr(first, n), getattr(second, n)) for n in ("log", "variance"))
    return replace(first, log=log, variance=variance)


def _unless(condition: Tensor, measured: ScaleMeasurement) -> ScaleMeasurement:
    valid = measured.valid & ~condition
    return ScaleMeasurement(
        torch.where(valid, measured.log, 0.0), torch.where(valid, measured.variance, torch.inf), valid
    )


def _nothing(device: torch.device) -> ScaleRatio:
    zero = torch.zeros((), dtype=torch.float64, device=device)
    return ScaleRatio(zero, zero + torch.inf, zero > 0, zero + 1.0)


def _grown(T: Tensor, T_about: Tensor, growth: Tensor) -> Tensor:
    """Poses (N, 4, 4) with all distances from the position of T_about (4, 4) multiplied by ``growth`` ()."""
    grown = T.clone()
    centre = T_about[:3, 3]
    grown[:, :3, 3] = centre + growth * (T[:, :3, 3] - centre)
    return grown


def _pairs(views: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Every earlier view with every later one, (K,) each."""
    first, second = torch.triu_indices(views, views, offset=1, device=device)
    return first, second


def _apart(T: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Displacement (K, 3) of the second of each pair of poses from the first, in the first one's axes."""
    a, b = T.index_select(0, first), T.index_select(0, second)
    return ((b[:, :3, 3] - a[:, :3, 3])[:, None] @ a[:, :3, :3])[:, 0]


def _longest(vectors: Tensor) -> Tensor:
    """Length () of the longest of vectors (K, 3); 0 without any."""
    return torch.cat([vectors.norm(dim=-1), vectors.new_zeros(1)]).amax()
