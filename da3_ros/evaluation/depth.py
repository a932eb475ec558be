"""Depth maps against true ones: AbsRel, RMSE and delta1-3, as they are or after the best scale, or scale and shift."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from da3_ros.errors import InputError
from da3_ros.evaluation.arrays import middle_values

Alignment = Literal["none", "median", "scale", "scale_shift"]
_DELTA = 1.25  # of delta1; delta2 and delta3 are its powers (Eigen et al. 2014)


@dataclass(frozen=True)
class DepthPairs:
    """Predicted and true depth of the pixels that have both: (n,) float64 each, > 0.

    ``covered``: the share of the pixels with truth that have a prediction. Pixels without one count nowhere else, so
    errors of two methods compare only at like coverage.
    """

    predicted: torch.Tensor
    true: torch.Tensor
    covered: float

    @staticmethod
    def joined(parts: Iterable[DepthPairs]) -> DepthPairs:
        """The pixels of several images as if they were one: for one alignment of a whole recording."""
        parts = list(parts)
        truths = sum(len(part.true) / part.covered for part in parts if part.covered > 0)
        predicted = torch.cat([part.predicted for part in parts])
        return DepthPairs(
            predicted,
            torch.cat([part.true for part in parts]),
            len(predicted) / truths if truths else float("nan"),
        )


@dataclass(frozen=True, slots=True)  # one for each frame and alignment of a recording
class DepthErrors:
    """Errors over the valid pixels of one image (or of several, joined); NaN where there is no pixel to compare.

    ``abs_rel``: mean of |p - t| / t. ``rmse``: in the unit of the truth. ``delta1`` to ``delta3``: shares of pixels
    with max(p / t, t / p) < 1.25, 1.25^2, 1.25^3. p is ``scale`` times the prediction plus ``shift``.
    """

    abs_rel: float
    rmse: float
    delta1: float
    delta2: float
    delta3: float
    covered: float
    pixels: int
    scale: float
    shift: float


def pair_depths(
    predicted: torch.Tensor | np.ndarray,
    true: torch.Tensor | np.ndarray,
    mask: torch.Tensor | np.ndarray | None = None,
    max_depth: float = float("inf"),
) -> DepthPairs:
    """The pixels of ``predicted`` and ``true`` (any equal shape, z-depth) that can be compared.

    Truth counts where it is finite, above 0, at most ``max_depth`` and inside ``mask`` (bool, same shape); a
    prediction that is NaN, infinite (sky) or not above 0 is none. Raises InputError for unequal shapes.
    """
    p, t = torch.as_tensor(predicted).detach(), torch.as_tensor(true).detach()
    if p.shape != t.shape or (mask is not None and tuple(mask.shape) != tuple(t.shape)):
        raise InputError(
            f"predicted depth {tuple(p.shape)}, true depth {tuple(t.shape)} and mask "
            f"{None if mask is None else tuple(mask.shape)} cannot be compared: bring them to one size"
        )
    # Comparisons are false for NaN.
    known = _compare(operator.gt, t, 0) & _compare(operator.lt, t, torch.inf)
    if max_depth < torch.inf:
        known &= _compare(operator.le, t, max_depth)
    if mask is not None:
        known &= torch.as_tensor(mask, device=t.device).bool()
    both = known & _compare(operator.gt, p, 0) & _compare(operator.lt, p, torch.inf)
    truths = _count(known)
    covered = _count(both) / truths if truths else float("nan")
    return DepthPairs(_select(p, both), _select(t, both), covered)


def fit_depth(pairs: DepthPairs, alignment: Alignment) -> tuple[float, float]:
    """Scale and shift that bring the prediction onto the truth.

    ``median``: ratio of the two medians. ``scale``: least squares of scale * p - t. ``scale_shift``: least squares of
    scale * p + shift - t (in depth, not disparity). NaN where the pixels do not determine them.
    """
    p, t = pairs.predicted, pairs.true
    if alignment == "none":
        return 1.0, 0.0
    if not len(p):
        return float("nan"), float("nan")
    if alignment == "median":
        return float(_median(t) / _median(p)), 0.0
    if alignment == "scale":
        return float((p * t).sum() / p.square().sum()), 0.0
    p_mean, t_mean = p.mean(), t.mean()
    spread = p - p_mean
    variance = spread.square().mean()
    if variance <= (1e-9 * p_mean) ** 2:
        return float("nan"), float("nan")
    scale = (spread.mul_(t - t_mean)).mean() / variance
    return float(scale), float(t_mean - scale * p_mean)


def depth_errors(pairs: DepthPairs, alignment: Alignment = "none") -> DepthErrors:
    """Errors after ``alignment``; see ``fit_depth``."""
    return errors_with(pairs, *fit_depth(pairs, alignment))


def errors_with(pairs: DepthPairs, scale: float, shift: float = 0.0) -> DepthErrors:
    """Errors of ``scale`` * prediction + ``shift``, for one alignment of many images."""
    nan = float("nan")
    t = pairs.true
    if not len(t) or not np.isfinite((scale, shift)).all():
        return DepthErrors(nan, nan, nan, nan, nan, pairs.covered, len(t), scale, shift)
    p = pairs.predicted if scale == 1.0 else scale * pairs.predicted
    p = p + shift if shift else p
    # In place: arrays of this size are no longer in the processor's caches, so each one more takes time.
    ratio = p / t
    other = t / p
    torch.maximum(ratio, other, out=ratio)
    if shift < 0 or scale <= 0:  # that can push depth to or below zero: then no ratio is near 1
        ratio.masked_fill_(~(p > 0), torch.inf)
    delta1, delta2, delta3 = (_count(_compare(operator.lt, ratio, _DELTA**power)) / len(t) for power in (1, 2, 3))
    off = torch.sub(p, t, out=other).abs_()
    return DepthErrors(
        abs_rel=float(torch.div(off, t, out=ratio).mean()),
        rmse=float(off.square_().mean().sqrt()),
        delta1=delta1,
        delta2=delta2,
        delta3=delta3,
        covered=pairs.covered,
        pixels=len(t),
        scale=scale,
        shift=shift,
    )


def _median(values: torch.Tensor) -> torch.Tensor:
    """Median that lies half-way between the middle two of an even number; torch's own takes the lower one."""
    if values.device.type == "cpu":  # a tenth of the time
        low, high = middle_values(values.numpy())
        return torch.tensor((low + high) / 2, dtype=values.dtype)
    ranked = values.sort().values
    return (ranked[(len(values) - 1) // 2] + ranked[len(values) // 2]) / 2


# On the CPU numpy compares, counts and selects two to ten times faster than torch.


def _compare(relation: Callable[[Any, Any], Any], values: torch.Tensor, limit: float) -> torch.Tensor:
    """Where ``values`` are so related to ``limit``: bool of the same shape."""
    if values.device.type != "cpu":
        return relation(values, limit)
    return torch.from_numpy(np.asarray(relation(values.numpy(), limit)))


def _count(mask: torch.Tensor) -> int:
    return int(mask.sum()) if mask.device.type != "cpu" else int(np.count_nonzero(mask.numpy()))


def _select(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The values (n,) float64 where ``mask`` is true."""
    if values.device.type != "cpu":
        return values[mask].double()
    return torch.from_numpy(values.numpy()[mask.numpy()].astype(np.float64))
