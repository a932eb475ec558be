"""The arithmetic of one tracking step: tensors in, tensors out, no wait and no branch on data.

It can therefore be captured as one CUDA graph for each number of views. Everything that was there before comes in as
``Memory`` and goes out as a new one; what the host knows comes in as one packed tensor (facts).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from da3_ros.tracking.depth_scale import ScaleRatio
from da3_ros.tracking.facts import FactsLayout
from da3_ros.tracking.gauge import invert_rigid, orthonormalize, squared_motion
from da3_ros.tracking.numbers import numbers
from da3_ros.tracking.rigid import RigidFit, RotationFit, blend, fit_centres, fit_rotation, misfit
from da3_ros.tracking.scale_filter import UNKNOWN_VARIANCE, ScaleFilter, ScaleState
from da3_ros.tracking.scale_sources import (
    SOURCES,
)
from da3_ros.tracking.steady_motion import Weighed, weigh
from da3_ros.tracking.window_scale import (
    LEAST_TEXTURE,
    carried_ratio,
    coarse_depth,
    compare_ways,
    measured_by_ranges,
    measurements,
    relative,
    texture_of,
)

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
    usable: Tensor  # () bool: the last window was
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
USABLE = -19  # likewise; ``shared`` comes before it


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
    shared, there = torch.minimum(windows, usable)[:-1], windows > 0
    known, started = there[:-1], there[-1]
    connected = shared.any()
    share = (usable / (windows + 1))[:-1]  # of the means that views' poses are
    stored = memory.poses.index_select(0, row)

    by_last = torch.where(memory.usable, facts["by_last"][0], facts["by_last"][1])
    turnover, noise = by_last[0], by_last[1:].view(2, 2)

    # Scale: from the last window by common depth and baselines, then corrected by the sources.
    remembered = memory.depth, memory.weight
    coarse, ways = beside(
        lambda: coarse_depth(remembered, facts, row, shared, T_world_cam, K, depth, confidence, usable),
        lambda: compare_ways(facts, shared, T_world_cam, stored),
    )
    thumbs, weights = coarse.depth, coarse.weight
    (ratio, seen, baseline, typical), (by_ranges, texture) = beside(
        lambda: carried_ratio(memory.log, ways, coarse),
        lambda: (measured_by_ranges(sources, facts, depth), texture_of(colours)),
    )
    ratio = replace(ratio, valid=ratio.valid & (texture >= LEAST_TEXTURE))
    flags = usable.expand(len(SOURCES))  # any: of this step they are still to come
    state = ScaleState(memory.log, memory.variance, memory.misfits, memory.idle, memory.age, flags, flags, flags)
    carried = scale_filter.carry(state, relative(ratio, memory.log), facts["elapsed_s"], turnover, usable)
    scale = _choose(started, carried, state)
    before = scale.log
    unit_depth = typical * torch.exp(-before)
    mount = facts["mount"]

    def corrected() -> ScaleState:
        measured = measurements(sources, ways, by_ranges, metres, unit_depth)
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

    def kept() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        at = from_body @ T_odom_cam[newest]
        arms = _first_seen(memory.arms, indices["arm"], at, facts["armed"][newest], usable)
        held, misfits = _on_body(facts, T_odom_cam, bodies, body, metric, newest)
        places = held[:, :3, 3]
        middle = facts["even"] @ places
        centre = torch.where(together, middle, places.index_select(0, chief[1:])[0])
        centre = torch.where(usable, centre, memory.centre)
        # A view's pose is the mean of what its windows say: one window's noise then moves the frame by little.
        return torch.where(known[:, None, None], blend(stored, held, share), held), centre, arms, misfits

    def weighed() -> Weighed:
        # What the body did was in another unit, in which noise may be known for one step more, or it is not known.
        free = (connected <= found) | memory.found
        went, unforeseen = from_before @ body, facts["unforeseen"]
        return weigh(body, memory.steady, memory.motion, went, unforeseen, facts["pace"], growth, noise, free, usable)

    # What is told, beside what is remembered. That stays as the windows have it: with the told poses in it, what is
    # left out of one step would change the unit of the next window.
    (T_odom_cam, centre, arms, misfits), steady = beside(kept, weighed)
    thumbs = thumbs * unit.float()
    after = Memory(
        memory.poses.index_copy(0, row, T_odom_cam),
        (memory.depth * growth.float()).index_copy(0, row[newest], thumbs),
        memory.weight.index_copy(0, row[newest], weights),
        body, steady.body, from_last @ steady.ahead, centre, arms,
        memory.windows.index_copy(0, indices["row"], windows + usable), found, usable,
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


def _choose(condition: Tensor, first: ScaleState, second: ScaleState) -> ScaleState:
    log, variance = (torch.where(condition, getattr(first, n), getattr(second, n)) for n in ("log", "variance"))
    return replace(first, log=log, variance=variance)


def _grown(T: Tensor, shift: Tensor, growth: Tensor) -> Tensor:
    """Poses (N, 4, 4) whose places p have become ``growth`` () p + ``shift`` (3,)."""
    grown = T.clone()
    torch.addcmul(shift, growth, T[:, :3, 3], out=grown[:, :3, 3])
    return grown
