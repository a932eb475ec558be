"""The arithmetic of one tracking step: tensors in, tensors out, no wait and no branch on data.

It can therefore be captured as one CUDA graph for each number of views. Everything that was there before comes in as
``Memory`` and goes out as a new one; what the host knows comes in as one packed tensor (facts).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from da3_ros.tracking.depth_scale import NewViews, OldViews, ScaleRatio, scale_by_depth
from da3_ros.tracking.facts import FactsLayout
from da3_ros.tracking.gauge import invert_rigid, orthonormalize, squared_motion
from da3_ros.tracking.numbers import numbers
from da3_ros.tracking.rigid import RigidFit, RotationFit, blend, fit_centres, fit_rotation, misfit, weighted_median
from da3_ros.tracking.scale_filter import UNKNOWN_VARIANCE, ScaleFilter, ScaleState, combine
from da3_ros.tracking.scale_sources import (
    SOURCES,
    ScaleMeasurement,
    scale_from_metres,
    scale_from_ranges,
    scale_from_vectors,
)
from da3_ros.tracking.steady_motion import weigh

# Depth is remembered on at most about this many pixels a side: more would only repeat the same errors.
THUMBNAIL = 32
# Baselines below this share of the scene's depth are noise of the poses, not a measure of length.
SHORTEST_BASELINE = 0.01
# A newest set whose neighbouring blocks of pixels differ by less (grey levels, on average) shows the network nothing.
# Noise of s levels for a pixel leaves 4 / sqrt(pi) * s / 8, so that of a sensor (s below 7) does not pass for texture.
LEAST_TEXTURE = 2.0
_BLOCK = 8  # pixels
_LEAST_WEIGHT = 1e-3  # of a valid pixel: where the network is sure of nothing, all pixels count alike

Beside = Callable[[Callable[[], Any], Callable[[], Any]], tuple[Any, Any]]


class Memory(NamedTuple):
    """What one window leaves to the next; R rows, one for each view that a window can hold."""

    poses: Tensor  # (R, 4, 4) float64 T_odom_cam
    depth: Tensor  # (R, P) float32 metres, of the view's thumbnail
    weight: Tensor  # (R, P) float32
    body: Tensor  # (4, 4) float64 T_odom_base; without a rig REP 103's axes at the place of a camera
    steady: Tensor  # (4, 4) float64 T_odom_base as it was told
    motion: Tensor  # (4, 4) float64 T_last_now of that over the last step, as evenly as it moves
    centre: Tensor  # (3,) float64 of the newest set's cameras that the body's pose comes from
    arms: Tensor  # (R, 4, 4) float64 T_body_cam as first seen, by camera, 0 before: holds the body without metres
    windows: Tensor  # (R + 1,) float64 how many usable windows a view's pose comes from; the last entry, how many were
    found: Tensor  # () bool: the last window had the first metres
    log: Tensor  # of ScaleState, as are the next four
    variance: Tensor
    misfits: Tensor
    idle: Tensor
    age: Tensor


class Step(NamedTuple):
    """What a step says of its window; float64 tensors."""

    T_odom_cam: Tensor  # (N, 4, 4)
    T_body: Tensor  # (4, 4) see Memory.body
    metres: Tensor  # () metres per unit
    metric: Tensor  # () bool: whether any source has ever given metres
    depth: Tensor  # (M, P) float32 metres, thumbnails of the newest views
    weight: Tensor  # (M, P) float32
    report: Tensor  # (len(REPORT) + 3 S + 1 + 6 M + 5 N + 18,), see TrackReport


REPORT = (
    "log_scale", "scale_variance", "carried", "steady", "seen", "baseline", "texture", "median_depth",
    "growth", "shift_x", "shift_y", "shift_z", "frame_scale_variance",
)  # fmt: skip
T_TOLD_KEPT = slice(-16, None)  # of a report, see TrackReport


def thumbnail_grid(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of an image of H x W pixels that its thumbnail has."""
    step = -(-max(height, width) // THUMBNAIL)
    return slice(step // 2, None, step), slice(step // 2, None, step)


def advance(
    scale_filter: ScaleFilter,
    sources: Collection[str],
    layout: FactsLayout,
    beside: Beside,
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

    Where a number of T_cam_world or K is not finite the window is not usable and says nothing: what is remembered
    stays, the body goes on as it did, and no view is placed (T_odom_cam is NaN).
    ``beside``: calls two functions that do not need each other, and may have the device do both at once. ``K``
    (N, 3, 3) canvas pixels; ``confidence`` (M, H, W) >= 1; depth that is not finite has no meaning; ``colours``
    (M, 3, H, W) uint8; ``metres`` (2,): metres per unit and its deviation from a metric network, NaN without.
    ``sources``: those that may give metres.
    """
    facts, indices = layout.unpack(packed), layout.unpack(packed.long())
    device, newest = T_cam_world.device, slice(len(T_cam_world) - len(depth), None)
    row, eye = indices["row"][:-1], numbers(device).eye
    T_cam_world = T_cam_world.double()
    usable = (T_cam_world.sum() + K.sum(dtype=torch.float64)).abs() < torch.inf
    T_world_cam = invert_rigid(torch.where(usable, T_cam_world, eye))
    orthonormalize(T_world_cam)
    # The host does not know yet which windows were usable, so what it takes for shared may not be.
    windows = memory.windows.index_select(0, indices["row"]) * facts["shared"]
    shared, known, started = torch.minimum(windows, usable)[:-1], windows[:-1] > 0, windows[-1] > 0
    connected = shared.any()
    share = (usable / (windows + 1))[:-1]  # of the means that views' poses are
    stored = memory.poses.index_select(0, row)

    # Scale: from the last window by common depth and baselines, then corrected by the sources.
    (coarse, by_ranges), (ways, texture) = beside(
        lambda: (_coarse(memory, facts, row, shared, K, depth, confidence, usable), _by_ranges(sources, facts, depth)),
        lambda: (_compare_ways(facts, shared, T_world_cam, stored), _texture(colours)),
    )
    thumbs, weights = coarse.depth, coarse.weight
    ratio, seen, baseline, typical = _carry(memory, facts, T_world_cam, ways, K, depth, coarse, newest)
    ratio = replace(ratio, valid=ratio.valid & (texture >= LEAST_TEXTURE))
    flags = usable.expand(len(SOURCES))  # any: of this step they are still to come
    state = ScaleState(memory.log, memory.variance, memory.misfits, memory.idle, memory.age, flags, flags, flags)
    carried = scale_filter.carry(state, _relative(ratio, memory.log), facts["elapsed_s"], facts["turnover"], usable)
    scale = _choose(started, carried, state)
    before = scale.log
    unit_depth = typical * torch.exp(-before)
    mount = facts["mount"]

    def corrected() -> ScaleState:
        measured = _measure(sources, ways, by_ranges, metres, unit_depth)
        return scale_filter.correct(scale, measured, facts["elapsed_s"], usable)

    def turned() -> tuple[RotationFit, Tensor]:
        # Views count by the inverse squares of their errors against the newest ones.
        motion = squared_motion(T_world_cam, newest, unit_depth)
        counted = shared / torch.addcmul(numbers(device).one, motion, facts["error_growth"])
        R = T_world_cam[:, :3, :3]
        R_odom_world, R_world_body = stored[:, :3, :3] @ R.mT, R @ mount[:, :3, :3].mT
        return fit_rotation(torch.stack([R_odom_world, R_world_body]), torch.stack([counted, facts["hangs"]])), motion

    # In one go the window in odom by the views that are shared, and its newest body by the cameras of the rig: their
    # rotations while the sources of scale are heard, their places when there are lengths.
    scale, (rotations, motion) = beside(corrected, turned)
    unit, metric = scale.metres_per_unit, scale.metric
    T_world_cam[:, :3, 3].mul_(unit)

    # What is remembered follows a correction, about the cameras that the body hangs on by a lever in metres, whatever
    # the scale: so the body's place in odom does not move. Where the lever comes with the first metres, the cameras do.
    growth = torch.where(started, torch.exp(scale.log - before), numbers(device).one)
    lever = _lever_of_last(memory, indices["hung"], facts["hung_lever"])
    found = metric > state.metric  # the first metres
    shift = torch.addcmul(found * lever, 1 - growth, memory.centre)
    stored = _grown(stored, shift, growth)

    chief = indices["chief"]
    known_arm = memory.arms.index_select(0, indices["chief_arm"][None])
    T_cam_body = invert_rigid(torch.cat([mount, _chief_arms(facts, known_arm, metric)]))
    bodies = T_world_cam @ T_cam_body[: len(T_world_cam)]
    fits = fit_centres(
        rotations, torch.stack([T_world_cam, eye.expand_as(bodies)]), torch.stack([stored, bodies])
    )
    expected = memory.steady @ facts["motion"]  # nothing shared hangs on where it was before
    at_chief = T_world_cam.index_select(0, chief) @ T_cam_body[len(T_world_cam) :]
    together = metric > facts["alone"]  # the rig is in metres
    T_apart = expected @ invert_rigid(torch.where(started & together, fits.T_b_a[1], at_chief[0]))
    T_odom_world = torch.where(connected, fits.T_b_a[0], T_apart)
    T_odom_cam, bodies = T_odom_world @ T_world_cam, T_odom_world @ bodies[newest]
    body = T_odom_world @ torch.where(together, fits.T_b_a[1], at_chief[1])
    body = torch.lerp(body, memory.body, torch.where(metric, facts["kept"][1], facts["kept"][0]))
    body = torch.where(usable, body, memory.body)
    from_body, from_before, from_last = invert_rigid(torch.stack([body, memory.body, memory.steady]))
    arms = _first_seen(memory.arms, indices["arm"], from_body @ T_odom_cam[newest], facts["armed"][newest], usable)
    T_odom_cam, misfits = _on_body(facts, T_odom_cam, bodies, body, metric, newest)
    places = T_odom_cam[:, :3, 3]
    middle = facts["even"] @ places
    centre = torch.where(together, middle, places.index_select(0, chief[1:])[0])
    centre = torch.where(usable, centre, memory.centre)
    # A view's pose is the mean of what its windows say: one window's noise then moves the frame by little.
    T_odom_cam = torch.where(known[:, None, None], blend(stored, T_odom_cam, share), T_odom_cam)

    # What is told. What is remembered stays as the windows have it: with the told poses in it, what is left out of one
    # step would change the unit of the next window.
    # What the body did was in another unit, in which noise may be known for one step more, or it is not known.
    free = (connected <= found) | memory.found
    steady = weigh(
        body, memory.steady, memory.motion, from_before @ body, facts["unforeseen"], facts["pace"], growth,
        facts["noise"], free, usable,
    )  # fmt: skip
    thumbs = thumbs * unit.float()
    after = Memory(
        memory.poses.index_copy(0, row, T_odom_cam),
        (memory.depth * growth.float()).index_copy(0, row[newest], thumbs),
        memory.weight.index_copy(0, row[newest], weights),
        body, steady.body, from_last @ steady.ahead, centre, arms,
        memory.windows.index_copy(0, indices["row"], windows + usable), found,
        scale.log, scale.variance, scale.misfits, scale.idle, scale.age,
    )  # fmt: skip
    told = steady.body @ from_body
    report = _report(scale, ratio, seen, baseline, texture, typical * growth, fits, growth, shift, misfits, motion)
    report = torch.cat([report, shared, usable[None], steady.innovation, told.flatten()])
    T_odom_cam = torch.where(usable, told, numbers(device).nan) @ T_odom_cam
    orthonormalize(T_odom_cam)
    return after, Step(T_odom_cam, steady.body, unit, metric, thumbs, weights, report)


def realigned(memory: Memory, T_new_old: Tensor) -> Memory:
    """The same in another frame odom, ``T_new_old`` (4, 4), and for the base in place of the body at which odom began:
    so that is also T_base_old.

    Its translation is that of a lever in metres, and counts nothing as long as there are none.
    """
    T = T_new_old.clone()
    T[:3, 3] *= memory.variance < UNKNOWN_VARIANCE / 2
    return memory._replace(
        poses=T @ memory.poses,
        body=T @ memory.body @ invert_rigid(T),
        steady=T @ memory.steady @ invert_rigid(T),
        centre=T[:3, :3] @ memory.centre + T[:3, 3],
        arms=T @ memory.arms,
    )


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


def _texture(colours: Tensor) -> Tensor:
    """Grey levels by which neighbouring blocks of the most textured newest view differ, ()."""
    grey = F.avg_pool2d(colours[:, 1].float(), max(1, min(_BLOCK, min(colours.shape[-2:]) // 4)))
    differences = grey.diff(dim=-1).abs().mean((-2, -1)) + grey.diff(dim=-2).abs().mean((-2, -1))
    return differences.amax().double()


class _Coarse(NamedTuple):
    """Coarse depth of the newest views in the window's unit, and of the older ones in metres."""

    depth: Tensor  # (M, P) float32, of the newest
    weight: Tensor  # (M, P) float32
    typical: Tensor  # () in the window's unit
    old: OldViews | None
    typical_old: Tensor  # () metres
    any_old: Tensor  # () bool


def _coarse(
    memory: Memory,
    facts: dict[str, Tensor],
    row: Tensor,
    shared: Tensor,
    K: Tensor,
    depth: Tensor,
    confidence: Tensor,
    usable: Tensor,
) -> _Coarse:
    thumbs, weights = _thumbnails(depth, confidence, facts["content"], usable)
    unit_depth = weighted_median(thumbs.flatten(), weights.flatten()).double()
    old = len(K) - len(depth)
    if not old:
        none = numbers(depth.device).zero
        return _Coarse(thumbs, weights, unit_depth, None, none, none > 0)
    depth_old = memory.depth.index_select(0, row[:old])
    weight_old = memory.weight.index_select(0, row[:old]) * shared[:old, None].float()
    metres_old = weighted_median(depth_old.flatten(), weight_old.flatten()).double()
    views = OldViews(depth_old, weight_old, _rays(K[:old], *depth.shape[-2:]))
    return _Coarse(thumbs, weights, unit_depth, views, metres_old, weight_old.sum() > 0)


def _carry(
    memory: Memory,
    facts: dict[str, Tensor],
    T_world_cam: Tensor,
    ways: _Ways,
    K: Tensor,
    depth: Tensor,
    coarse: _Coarse,
    newest: slice,
) -> tuple[ScaleRatio, Tensor, Tensor, Tensor]:
    """Metres per unit by what is remembered; what the newest views see of it; longest baseline over depth; depth."""
    measured = ways.baselines
    if coarse.old is not None:
        guess = coarse.typical_old.clamp(min=1e-9).log() - coarse.typical.log()
        guess = torch.where(coarse.any_old, guess, memory.log)
        guess = torch.where(measured.valid, measured.log, guess)
        T_new_old = invert_rigid(T_world_cam[newest])[:, None] @ T_world_cam[: newest.start]
        new = NewViews(depth, K[newest], facts["content"])
        by_depth, seen = scale_by_depth(coarse.old, new, T_new_old, guess)
    else:
        by_depth, seen = _nothing(depth.device), torch.zeros((), dtype=torch.float64, device=depth.device)
    guess = torch.where(by_depth.valid, by_depth.log, torch.where(measured.valid, measured.log, memory.log))
    typical = coarse.typical * guess.exp()
    baseline = ways.longest_baseline / typical.clamp(min=1e-9)
    measured = measured.unless(baseline < SHORTEST_BASELINE)
    by_baseline = ScaleRatio(measured.log, measured.variance, measured.valid, numbers(depth.device).one)
    # Without depth to compare, nothing is known of moving objects.
    by_depth = replace(by_depth, steady=torch.where(by_depth.valid, by_depth.steady, numbers(depth.device).one))
    return combine([by_depth, by_baseline]), seen, baseline, typical


class _Ways(NamedTuple):
    """What displacements between views say: as the last window has them, as the rig and as the robot's odometry."""

    baselines: ScaleMeasurement
    rig: ScaleMeasurement
    odometry: ScaleMeasurement
    longest_baseline: Tensor  # () metres
    longest_way: Tensor  # () in the window's unit, of those that odometry has


def _compare_ways(facts: dict[str, Tensor], shared: Tensor, T_world_cam: Tensor, stored: Tensor) -> _Ways:
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
    return _Ways(baselines, rig, odometry, longest_baseline, longest_way)


@functools.cache
def _pairs(views: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Indices (K,) of the earlier and of the later of each pair of views; which of the three kinds is as noisy as what
    is predicted (3,)."""
    first, second = torch.triu_indices(views, views, offset=1, device=device)
    return first, second, torch.arange(3, device=device) == 0


def _measure(
    sources: Collection[str],
    ways: _Ways,
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


def _by_ranges(sources: Collection[str], facts: dict[str, Tensor], depth: Tensor) -> ScaleMeasurement | None:
    return scale_from_ranges(*_at_ranges(facts["ranges"], depth)) if "range" in sources else None


def _at_ranges(ranges: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Measured metres (K,) and the predicted depth (K,) at their pixels; both NaN where there is none."""
    height, width = depth.shape[-2:]
    view, u, v = torch.nan_to_num(ranges[:, :3]).round().long().unbind(-1)
    index = (view * height + v.clamp(0, height - 1)) * width + u.clamp(0, width - 1)
    return ranges[:, 3], depth.flatten().index_select(0, index)


def _lever_of_last(memory: Memory, hung: Tensor, lever: Tensor) -> Tensor:
    """(3,) in odom: what a ``lever`` (3,) in metres, to the camera in row ``hung``, adds to what the body had."""
    arm = memory.arms.index_select(0, hung[None])[0]
    return memory.body[:3, :3] @ (arm[:3, :3] @ lever - arm[:3, 3])


def _chief_arms(facts: dict[str, Tensor], seen: Tensor, metric: Tensor) -> Tensor:
    """T_body_cam (2, 4, 4) of the two chief views.

    Without metres no lever of the rig has a length: the body is at its camera, or where that was last ``seen`` from it.
    """
    level = facts["chief_mount"].clone()
    level[:, :3, 3].mul_(metric)
    return torch.where(facts["chief_armed"] * seen[:, 3:, 3:] > metric, seen, level)


def _first_seen(arms: Tensor, row: Tensor, seen: Tensor, armed: Tensor, usable: Tensor) -> Tensor:
    """``arms`` with those of the newest views' cameras, as ``seen`` (M, 4, 4), in their rows (M,).

    What the host takes for ``armed`` (M,) stays as it was first seen, in a window that was ``usable`` ().
    """
    before = arms.index_select(0, row)
    write = before[:, 3, 3] * armed < usable
    return arms.index_copy(0, row, torch.where(write[:, None, None], seen, before))


def _on_body(
    facts: dict[str, Tensor], T_odom_cam: Tensor, bodies: Tensor, body: Tensor, metric: Tensor, newest: slice
) -> tuple[Tensor, Tensor]:
    """Poses with the newest set's cameras held together by the rig, and each one's misfit (M, 6).

    ``bodies`` (M, 4, 4): as each camera has it, ``body`` (4, 4). The rig is in metres: without a ``metric`` scale its
    cameras keep their own poses.
    """
    mounted, mount = facts["mounted"][newest] > 0, facts["mount"][newest]
    held = torch.where((metric & mounted)[:, None, None], body @ mount, T_odom_cam[newest])
    off = torch.where(mounted[:, None], misfit(bodies, body), numbers(body.device).nan)
    return torch.cat([T_odom_cam[: newest.start], held]), off


def _report(
    scale: ScaleState,
    ratio: ScaleRatio,
    seen: Tensor,
    baseline: Tensor,
    texture: Tensor,
    typical: Tensor,
    fits: RigidFit,
    growth: Tensor,
    shift: Tensor,
    misfits: Tensor,
    motion: Tensor,
) -> Tensor:
    # A window's own error is part of its scale, though the next windows do not all inherit it.
    own = torch.where(ratio.valid, ratio.variance, numbers(ratio.variance.device).zero)
    values = [
        scale.log, scale.variance + own, ratio.valid.double(), ratio.steady, seen, baseline, texture, typical,
        growth, *shift, scale.variance,
    ]  # fmt: skip
    flags = torch.stack([scale.used, scale.jumped, scale.rejected]).flatten()
    of_views = motion, fits.angle[0], fits.distance[0], fits.weights[0]
    return torch.cat([torch.stack(values), flags, misfits.flatten(), *of_views])


def _relative(ratio: ScaleRatio, log: Tensor) -> ScaleRatio:
    """Metres per unit as the factor from the last window's."""
    return replace(ratio, log=torch.where(ratio.valid, ratio.log - log, numbers(log.device).zero))


def _choose(condition: Tensor, first: ScaleState, second: ScaleState) -> ScaleState:
    log, variance = (torch.where(condition, getattr(first, n), getattr(second, n)) for n in ("log", "variance"))
    return replace(first, log=log, variance=variance)


def _nothing(device: torch.device) -> ScaleRatio:
    zero = torch.zeros((), dtype=torch.float64, device=device)
    return ScaleRatio(zero, zero + torch.inf, zero > 0, zero + 1.0)


def _grown(T: Tensor, shift: Tensor, growth: Tensor) -> Tensor:
    """Poses (N, 4, 4) whose places p have become ``growth`` () p + ``shift`` (3,)."""
    grown = T.clone()
    torch.addcmul(shift, growth, T[:, :3, 3], out=grown[:, :3, 3])
    return grown


def _apart(T: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Displacement (..., K, 3) of the second of each pair of poses (..., N, 4, 4) from the first, in its axes."""
    a, b = T.index_select(-3, first), T.index_select(-3, second)
    return ((b[..., :3, 3] - a[..., :3, 3])[..., None, :] @ a[..., :3, :3])[..., 0, :]
