"""One slowly changing metric scale out of a chain of windows and whatever says how many metres a unit is.

The state is the logarithm of the metres per unit of the current window. From window to window the chain carries it
over (their common depth and baselines say how the unit changed, however much); sources correct it slowly, because
successive windows share most of their views, and so most of their errors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from da3_ros.tracking.depth_scale import ScaleRatio
from da3_ros.tracking.scale_sources import ScaleMeasurement

_GATE = 16.0  # squared standard deviations beyond which a measurement does not fit
_UNKNOWN = 1e6  # variance of a scale of which nothing is known
# Variance that a second adds: no chain of windows stays true to its scale for ever.
_DRIFT_PER_S = 0.01**2
# Relative deviation per window of a scale that is merely kept, since nothing connects the windows.
_KEPT_STDDEV = 0.05


@dataclass(frozen=True)
class ScaleState:
    """Logarithm of the metres per unit of the newest window. Tensors ()."""

    log: Tensor  # float64
    variance: Tensor  # float64; _UNKNOWN or more before the first measurement
    misfits: Tensor  # int64, consecutive measurements that did not fit
    jumped: Tensor  # bool: this step took over another scale after misfits
    rejected: Tensor  # bool: this step's measurement did not fit and was left out

    @property
    def metric(self) -> Tensor:
        """Whether any source has ever given metres (bool)."""
        return self.variance < _UNKNOWN / 2

    @property
    def metres_per_unit(self) -> Tensor:
        """() float64."""
        return self.log.exp()

    @property
    def stddev(self) -> Tensor:
        """Of metres_per_unit, () float64."""
        return self.log.exp() * self.variance.sqrt()


def unknown_scale(device: torch.device) -> ScaleState:
    """One unit is taken as one metre until a source says otherwise."""
    zero = torch.zeros((), dtype=torch.float64, device=device)
    no = zero > 0
    return ScaleState(zero, zero + _UNKNOWN, torch.zeros((), dtype=torch.int64, device=device), no, no)


class ScaleFilter:
    """A scalar Kalman filter on the logarithm of the scale.

    ``time_constant_s``: how slowly a source corrects the chain of windows. ``jump_after``: so many consecutive
    measurements that contradict the state replace it.
    """

    def __init__(self, time_constant_s: float, jump_after: int):
        self._time_constant_s = time_constant_s
        self._jump_after = jump_after

    def carry(self, state: ScaleState, ratio: ScaleRatio, elapsed_s: float) -> ScaleState:
        """To the next window, whose unit is ``ratio`` of the last one's; without a valid ratio the scale is kept."""
        added = torch.where(ratio.valid, ratio.variance, _KEPT_STDDEV**2) + _DRIFT_PER_S * elapsed_s
        return replace(state, log=state.log + torch.where(ratio.valid, ratio.log, 0.0), variance=state.variance + added)

    def correct(self, state: ScaleState, measured: ScaleMeasurement, elapsed_s: float) -> ScaleState:
        """With a measurement of the same window, ``elapsed_s`` after the one before it.

        The first one is taken over as it is. A later one counts for as little as one of time_constant_s / elapsed_s
        that repeat each other; one that does not fit is left out, and the ``jump_after``-th in a row is taken over
        with ``jumped`` set.
        """
        first = ~state.metric
        innovation = measured.log - state.log
        fits = first | (innovation.square() <= _GATE * (state.variance + measured.variance))
        misfits = torch.where(measured.valid, torch.where(fits, 0, state.misfits + 1), state.misfits)
        jumped = measured.valid & (misfits >= self._jump_after)
        take_over = measured.valid & (first | jumped)

        repeats = 1.0 + self._time_constant_s / max(elapsed_s, 1e-3)
        gain = state.variance / (state.variance + repeats * measured.variance)
        gain = torch.where(take_over, 1.0, torch.where(measured.valid & fits, gain, 0.0))
        left = torch.where(take_over, measured.variance, (1 - gain) * state.variance)
        return ScaleState(
            log=state.log + gain * torch.where(measured.valid, innovation, 0.0),
            variance=left,
            misfits=torch.where(take_over, 0, misfits),
            jumped=jumped,
            rejected=measured.valid & ~fits & ~jumped,
        )


def combine(ratios: list[ScaleRatio]) -> ScaleRatio:
    """Inverse-variance mean of independent ratios; invalid ones count nothing."""
    valid = torch.stack([ratio.valid for ratio in ratios])
    # 1e-12: exact data would give infinite weights.
    weight = torch.where(valid, 1 / torch.stack([ratio.variance for ratio in ratios]).clamp(min=1e-12), 0.0)
    total = weight.sum()
    any_valid = valid.any()
    log = (weight * torch.stack([ratio.log for ratio in ratios])).sum() / torch.where(any_valid, total, 1.0)
    steady = torch.stack([ratio.steady for ratio in ratios]).amin()
    return ScaleRatio(log, torch.where(any_valid, 1 / total, torch.inf), any_valid, steady)
