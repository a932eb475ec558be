"""What depth says of itself over time, without truth: do neighbouring frames agree on surfaces, and does it flicker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from da3_ros.evaluation.arrays import is_depth, middle_values
from da3_ros.geometry.camera import project, unproject
from da3_ros.geometry.clouds import transform_points

_FEWEST_PIXELS = 100  # of overlap, below which a pair says nothing


@dataclass(frozen=True)
class PosedDepth:
    """``depth`` (H, W) z-depth, not above 0 or not finite: none; ``K`` (3, 3) in its pixels; ``T_world_cam`` (4, 4)."""

    depth: torch.Tensor
    K: np.ndarray
    T_world_cam: np.ndarray


@dataclass(frozen=True, slots=True)  # one for each frame of a recording
class PairConsistency:
    """How the depth of one frame, moved into another one, agrees with that one's own depth.

    ``overlap``: share of the first frame's depth that falls onto depth of the other. Of those pixels: ``bias``, the
    median of log(moved / own), and the same as ``jitter`` with the median distance from that median; ``median_error``,
    the median of |moved / own - 1|; ``within_1``, ``within_5``, ``within_10``: shares where that is below 1, 5, 10 %.
    NaN where fewer than 100 pixels overlap. Surfaces that hide each other count as disagreement, so even true depth is
    not perfect: compare methods on the same frames.
    """

    overlap: float
    bias: float
    jitter: float
    median_error: float
    within_1: float
    within_5: float
    within_10: float


@dataclass(frozen=True)
class TemporalConsistency:
    """Means over the pairs of neighbouring frames that overlap, and their number.

    ``scale_flicker``: root mean square over the pairs of the bias (natural logarithm, so about a relative change):
    depth that breathes as a whole. ``local_flicker``: mean of the pairs' jitter: depth that shimmers.
    """

    pairs: int
    overlap: float
    median_error: float
    within_1: float
    within_5: float
    within_10: float
    scale_flicker: float
    local_flicker: float


def pair_consistency(first: PosedDepth, second: PosedDepth) -> PairConsistency:
    """Move the depth of ``first`` into ``second`` by the two poses and compare there, at the nearest pixel."""
    T_second_first = np.linalg.inv(second.T_world_cam) @ first.T_world_cam
    points = unproject(first.depth.double(), torch.from_numpy(first.K))
    points = transform_points(torch.from_numpy(T_second_first), points).reshape(-1, 3)
    # Compared and selected by numpy, which takes a fraction of torch's time for that on the CPU.
    known = is_depth(first.depth.numpy()).reshape(-1)
    if not known.all():
        points = torch.from_numpy(points.numpy().compress(known, axis=0))  # (n, 3)
    height, width = second.depth.shape
    u, v = np.ascontiguousarray(project(points, torch.from_numpy(second.K)).round().numpy().T)
    inside = np.flatnonzero((u >= 0) & (u < width) & (v >= 0) & (v < height))  # false for NaN
    own = second.depth.numpy().reshape(-1)[(v[inside] * width + u[inside]).astype(np.intp)]
    seen = is_depth(own)
    own, moved = own[seen].astype(np.float64), points.numpy()[inside[seen], 2]
    nan = float("nan")
    overlap = len(own) / len(points) if len(points) else nan
    if len(own) < _FEWEST_PIXELS:
        return PairConsistency(overlap, nan, nan, nan, nan, nan, nan)
    ratio = moved / own
    logarithm = torch.from_numpy(ratio).log().numpy()
    bias, _ = middle_values(logarithm)
    jitter, _ = middle_values(np.abs(logarithm - bias))
    error = np.abs(ratio - 1)
    within = [np.count_nonzero(error < limit) / len(error) for limit in (0.01, 0.05, 0.10)]
    return PairConsistency(overlap, bias, jitter, middle_values(error)[0], *within)


def temporal_consistency(frames: Sequence[PosedDepth], step: int = 1) -> TemporalConsistency:
    """Consistency of each frame with the one ``step`` later, of one camera in order of time."""
    return summarize_consistency([pair_consistency(a, b) for a, b in zip(frames[:-step], frames[step:], strict=True)])


def summarize_consistency(pairs: Sequence[PairConsistency]) -> TemporalConsistency:
    """The pairs of one camera together; those that hardly overlap do not count."""
    good = [pair for pair in pairs if np.isfinite(pair.bias)]
    nan = float("nan")
    if not good:
        return TemporalConsistency(0, nan, nan, nan, nan, nan, nan, nan)

    def mean(name: str) -> float:
        return float(np.mean([getattr(pair, name) for pair in good]))

    return TemporalConsistency(
        pairs=len(good),
        overlap=mean("overlap"),
        median_error=mean("median_error"),
        within_1=mean("within_1"),
        within_5=mean("within_5"),
        within_10=mean("within_10"),
        scale_flicker=float(np.sqrt(np.mean([pair.bias**2 for pair in good]))),
        local_flicker=mean("jitter"),
    )
