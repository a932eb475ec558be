"""Whether two places are one, and how they lie to each other: read from one window of the network across both.

The network may relate pictures of different places, too, with plausible poses. So its answer counts only if the
depth of each place agrees with what was seen there at the time, the views of each place lie to each other as they
did then, and the surfaces of one place, laid into the views of the other, are where that one has them. That they are
one place is shown by points that look alike (landmarks) and that the network has in one spot; then its depth and
poses may be off by what those of a small network are. Where pictures have too few such points the network must be
exact instead, and surfaces have to look alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from da3_ros.geometry.camera import project, unproject
from da3_ros.geometry.se3 import invert
from da3_ros.tracking.keyframe_store import Keyframe, KeyframeView
from da3_ros.tracking.landmarks import compare_sightings, find_points
from da3_ros.tracking.pose_graph import Constraint
from da3_ros.tracking.rigid import fit_rigid
from da3_ros.tracking.similarity import invert_similarity, scaling, transform

_FEWEST_PIXELS = 64
_MAD_TO_STDDEV = 1.4826
# Independent readings in the depth of a place: errors of a network's depth are smooth, and alike in near views.
_INDEPENDENT = 4.0
_LOOKED_AT = 4  # views of a place, its keyframe's own first, in which points are looked for: 16 pairs take 0.2 s
_FEWEST_POINTS = 30  # in the pictures of a place, in the median: fewer show nothing that could be known again
# Surfaces count as the same within so many deviations of the depth from what it was, up to the share of it.
_DEVIATIONS, _WIDEST = 2.0, 0.5
_LEAST_ROTATION_STDDEV = 0.005  # radians: what two windows of the same place differ by at best
_LEAST_TRANSLATION_STDDEV = 0.01  # of the median depth
_LEAST_SCALE_STDDEV = 0.005


@dataclass(frozen=True)
class Limits:
    """``depth_spread``: largest relative deviation of the window's depth from the one seen at the time, after scaling;
    ``turn_rad`` and ``shift`` (of the median depth): by how much the views of one place may lie differently."""

    depth_spread: float
    turn_rad: float
    shift: float


@dataclass(frozen=True)
class LoopPolicy:
    """What a window across two places must show.

    ``exact``: limits where nothing but the window says that the places are one; ``known``: where points that look
    alike do. Of the points of one view at least ``points`` must be where the window has them in one spot with points of
    the other place, in at least ``parts`` of 20 equal parts of the picture (fewer are of one thing that is in both,
    such as a poster), and they must be at least ``agreeing`` of its points that match.
    ``agreement``: relative difference of depth that counts as the same surface in any case, of ``share`` of the pixels
    that fall into the other place's views, which are at least ``coverage`` of them; ``correlation``: of their grey
    levels, where there are no points.
    """

    exact: Limits = Limits(0.25, 0.1, 0.1)
    known: Limits = Limits(0.6, 0.3, 0.3)
    points: int = 20
    parts: int = 6
    agreeing: float = 0.4
    agreement: float = 0.15
    share: float = 0.5
    coverage: float = 0.2
    correlation: float = 0.2


@dataclass(frozen=True)
class Place:
    """A keyframe and views near it, each with its keyframe; the first one is the keyframe's own."""

    keyframe: Keyframe
    views: tuple[tuple[Keyframe, KeyframeView], ...]

    def T_place_cam(self) -> np.ndarray:
        """Poses (n, 4, 4) of the views in the body frame of the keyframe, by odometry."""
        T = invert(self.keyframe.T_odom_body)
        return np.stack([T @ view.T_odom_cam for _, view in self.views])


@dataclass(frozen=True)
class SharedWindow:
    """What the network says of the views of both places together, old ones first, in a gauge of its own.

    ``T_world_cam`` (N, 4, 4); ``depth``: N maps (h, w) on the grids of the keyframes' views.
    """

    T_world_cam: np.ndarray
    depth: Sequence[np.ndarray]


@dataclass(frozen=True)
class Verdict:
    """``constraint`` between the keyframes where they are one place; else ``reason`` says what spoke against it."""

    constraint: Constraint | None
    reason: str = ""


@dataclass(frozen=True)
class _Fit:
    """S_place_world (4, 4), its variance (7,), and the deviation ``spread`` of the logarithm of depth."""

    S_place_world: np.ndarray
    variance: np.ndarray
    spread: float


def verify(old: Place, new: Place, window: SharedWindow, policy: LoopPolicy) -> Verdict:
    """Judge a window of the views of ``old``, then those of ``new``."""
    known = _known_again(old, new, window, policy)
    if known is False:
        return Verdict(None, "the places share no points")
    limits = policy.known if known else policy.exact
    split = len(old.views)
    fit_old = _fit_place(old, window.T_world_cam[:split], window.depth[:split], limits)
    fit_new = _fit_place(new, window.T_world_cam[split:], window.depth[split:], limits)
    for fit in (fit_old, fit_new):
        if isinstance(fit, str):
            return Verdict(None, fit)
    assert not isinstance(fit_old, str) and not isinstance(fit_new, str)
    S_old_new = fit_old.S_place_world @ invert_similarity(fit_new.S_place_world)
    agreement, correlation = policy.agreement, policy.correlation
    if known:
        noise = _DEVIATIONS * float(np.hypot(fit_old.spread, fit_new.spread))
        agreement, correlation = max(agreement, min(noise, _WIDEST)), -1.0
    for from_, to, S in ((new, old, S_old_new), (old, new, invert_similarity(S_old_new))):
        reason = _compare(from_, to, S, policy, agreement, correlation)
        if reason:
            return Verdict(None, reason)
    lever = max(place.keyframe.median_depth for place in (old, new)) ** 2
    least = np.array(
        [_LEAST_ROTATION_STDDEV**2] * 3 + [_LEAST_TRANSLATION_STDDEV**2 * lever] * 3 + [_LEAST_SCALE_STDDEV**2]
    )
    variance = least + fit_old.variance + fit_new.variance
    return Verdict(Constraint(old.keyframe.number, new.keyframe.number, S_old_new, variance))


def _known_again(old: Place, new: Place, window: SharedWindow, policy: LoopPolicy) -> bool | None:
    """Whether points that look alike lie in one spot; None where the pictures of a place have too few to tell."""
    of_old, of_new = ([find_points(view) for _, view in place.views[:_LOOKED_AT]] for place in (old, new))
    if any(np.median([len(one) for one in part]) < _FEWEST_POINTS for part in (of_old, of_new)):
        return None
    views = [*range(len(of_old)), *(len(old.views) + index for index in range(len(of_new)))]
    depth = [window.depth[index] for index in views]
    found = compare_sightings([*of_old, *of_new], window.T_world_cam[views], depth, len(of_old))
    return found.agreeing >= max(policy.points, policy.agreeing * found.matched) and found.parts >= policy.parts


def _fit_place(place: Place, T_world_cam: np.ndarray, depth: Sequence[np.ndarray], limits: Limits) -> _Fit | str:
    """How the window has the place, or what is wrong."""
    logs = []
    for (_, view), seen in zip(place.views, depth, strict=True):
        then = view.depth.astype(np.float64)
        both = np.isfinite(then) & np.isfinite(seen) & (then > 0) & (seen > 0) & (view.weight > 0)
        logs.append(np.log(then[both]) - np.log(seen[both]))
    log = np.concatenate(logs)
    if len(log) < _FEWEST_PIXELS:
        return "too little depth"
    ratio = float(np.median(log))
    spread = _MAD_TO_STDDEV * float(np.median(np.abs(log - ratio)))
    if spread > limits.depth_spread:
        return "depth differs from what it was"
    scaled = T_world_cam.copy()
    scaled[:, :3, 3] *= np.exp(ratio)
    fit = fit_rigid(torch.from_numpy(scaled), torch.from_numpy(place.T_place_cam()))
    depth_m = place.keyframe.median_depth
    apart = float(fit.angle.max()) > limits.turn_rad or float(fit.distance.max()) > limits.shift * depth_m
    if apart:
        return "the views of one place do not lie as they did"
    # The keyframe's own view ties it to the other place: what odometry is off between the views stays out of it. How
    # far a single view may be off is what they are off against each other, or, of one alone, what odometry has found.
    S_place_world = place.T_place_cam()[0] @ scaling(float(np.exp(ratio))) @ invert(T_world_cam[0])
    views = len(place.views)
    rotation, translation = place.keyframe.view_variance
    if views > 1:  # the mean that they are laid on is their own, and nearer to them than the truth
        rotation, translation = (
            float(off.square().mean()) / 3 / (1 - 1 / views) for off in (fit.angle, fit.distance)
        )
    variance = np.array([rotation] * 3 + [translation] * 3 + [spread**2 / _INDEPENDENT])
    return _Fit(S_place_world, variance, spread)


def _compare(
    from_: Place, to: Place, S_to_from: np.ndarray, policy: LoopPolicy, agreement: float, correlation: float
) -> str:
    """What is wrong with the surfaces of one place in the views of the other; empty if nothing."""
    into, out_of = to.T_place_cam(), from_.T_place_cam()
    most, best = 0.0, None
    for i, (_, source) in enumerate(from_.views):
        for j, (_, target) in enumerate(to.views):
            S = invert(into[j]) @ S_to_from @ out_of[i]
            seen, same, grey = look_up(source, target, S, agreement)
            if seen > most:
                most, best = seen, (same, grey)
    if best is None or most < policy.coverage:
        return "the places do not overlap"
    same, grey = best
    if same < policy.share:
        return "the surfaces are not the same"
    if grey < correlation:
        return "the places do not look alike"
    return ""


def look_up(
    source: KeyframeView, target: KeyframeView, S_target_source: np.ndarray, agreement: float
) -> tuple[float, float, float]:
    """The share of a view's points that another view shows, of these the share at the same depth, and the
    correlation of their grey levels."""
    depth = source.depth.astype(np.float64)
    valid = np.isfinite(depth) & (depth > 0) & (source.weight > 0)
    if valid.sum() < _FEWEST_PIXELS:
        return 0.0, 0.0, 0.0
    points = transform(S_target_source, unproject_grid(depth, source.K)[valid])
    u, v, inside = pixels(points, target.K, target.depth.shape)
    there = target.depth[v[inside], u[inside]].astype(np.float64)
    z = points[inside, 2]
    known = np.isfinite(there) & (there > 0)
    if known.sum() < _FEWEST_PIXELS:
        return 0.0, 0.0, 0.0
    # What lies behind the other view's surface is hidden there, and says nothing.
    hidden = z[known] > (1 + agreement) * there[known]
    same = np.abs(z[known] - there[known]) <= agreement * there[known]
    share = float(same.sum() / max(1, (~hidden).sum()))
    grey_a = source.colours[valid][inside][known][same].astype(np.float64).mean(-1)
    grey_b = target.colours[v[inside], u[inside]][known][same].astype(np.float64).mean(-1)
    coverage = float(known.sum() / valid.sum()) * float((~hidden).mean())
    return coverage, share, correlation(grey_a, grey_b)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's, 0 where one of the two is uniform."""
    if len(a) < _FEWEST_PIXELS or a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def unproject_grid(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Points (h, w, 3) of depth (h, w) in the optical frame."""
    return unproject(torch.from_numpy(depth), torch.from_numpy(K)).numpy()


def pixels(points: np.ndarray, K: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nearest columns and rows of points (n, 3) in an image of ``shape`` (h, w), and which of them lie in it."""
    uv = project(torch.from_numpy(points), torch.from_numpy(K)).round().numpy()
    inside = (uv[:, 0] >= 0) & (uv[:, 0] < shape[1]) & (uv[:, 1] >= 0) & (uv[:, 1] < shape[0])  # false for NaN
    u, v = np.nan_to_num(uv, nan=-1.0).clip(-1, 1e6).astype(np.int64).T
    return u, v, inside
