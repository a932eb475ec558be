"""One slowly changing metric scale out of a chain of windows and whatever says how many metres a unit is.

The state is the logarithm of the metres per unit of the current window. From window to window the chain carries it
over (their common depth and baselines say how the unit changed, however much); sources correct it slowly, because
successive windows share most of their views, and so most of their errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from da3_ros.tracking.depth_scale import ScaleRatio
from da3_ros.tracking.numbers import numbers
from da3_ros.tracking.scale_sources import SOURCES, ScaleMeasurement, no_measurement

_GATE = 16.0  # squared standard deviations beyond which a measurement does not fit
UNKNOWN_VARIANCE = 1e6  # of a scale of which nothing is known
# Variance that a second adds: no chain of windows stays true to its scale for ever.
_DRIFT_PER_S = 0.01**2
# Relative deviation per window of a scale that is merely kept, since nothing connects the windows.
_KEPT_STDDEV = 0.05
# Consecutive measurements that share their error, as far as the variance is concerned: windows share their views.
_REPEATED = 8.0
_LONG_AGO = 1_000_000  # steps


@dataclass(frozen=True)
class ScaleState:
    """Logarithm of the metres per unit of the newest window. Tensors () or, one entry for each of SOURCES, (S,)."""

    log: Tensor  # () float64
    variance: Tensor  # () float64; UNKNOWN_VARIANCE or more before the first measurement
    misfits: Tensor  # (S,) int64, consecutive measurements that did not fit; below zero after a refusal
    idle: Tensor  # (S,) int64, steps since a measurement was last used
    age: Tensor  # () float64, seconds since a measurement was taken over as it is
    used: Tensor  # (S,) bool: this step's measurement was taken in
    jumped: Tensor  # (S,) bool: this step took over another scale after misfits
    rejected: Tensor  # (S,) bool: this step's measurement did not fit, or was refused, and was left out

    @property
    def metric(self) -> Tensor:
        """Whether any source has ever given metres (bool)."""
        return self.variance < UNKNOWN_VARIANCE / 2

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
    none = torch.zeros(len(SOURCES), dtype=torch.int64, device=device)
    return ScaleState(zero, zero + UNKNOWN_VARIANCE, none, none + _LONG_AGO, zero, none > 0, none > 0, none > 0)


class ScaleFilter:
    """A scalar Kalman filter on the logarithm of the scale.

    ``time_constant_s``: a source moves the scale no faster than with this time constant; as long as less time has
    passed since the first measurement the scale is the mean of what was heard, since nothing makes the first window
    better than the next ones. ``jump_after``: so many consecutive measurements of a source that contradict the state
    replace it, unless another source agreed with the state meanwhile.
    """

    def __init__(self, time_constant_s: float, jump_after: int):
        self.time_constant_s = max(time_constant_s, 1e-6)
        self._jump_after = jump_after

    def carry(
        self,
        state: ScaleState,
        ratio: ScaleRatio,
        elapsed_s: Tensor | float,
        inherited: Tensor | float = 1.0,
        usable: Tensor | float = 1.0,
    ) -> ScaleState:
        """To the next window, whose unit is ``ratio`` of the last one's; without a valid ratio the scale is kept.

        ``inherited``: share of the ratio's variance that later windows inherit, for most compare with the same views.
        ``usable``: 0 for a window that nothing will be compared with, so that the scale is that of the last one.
        """
        added = torch.where(ratio.valid, ratio.variance * inherited, usable * _KEPT_STDDEV**2)
        added = added + _DRIFT_PER_S * elapsed_s
        log = torch.where(ratio.valid, state.log + ratio.log, state.log)
        return replace(state, log=log, variance=state.variance + added)

    def correct(
        self,
        state: ScaleState,
        measured: Sequence[ScaleMeasurement | None],
        elapsed_s: Tensor | float,
        usable: Tensor | bool = True,
    ) -> ScaleState:
        """With measurements of the same window, one of each of SOURCES or None, ``elapsed_s`` after those before.

        The first valid one is taken over as it is. A later one counts for as little as one of time_constant_s (or the
        time since the first one) / elapsed_s that repeat each other; one that does not fit is left out, and the
        ``jump_after``-th in a row is taken over with ``jumped`` set. A source that was refused is left out until it was
        not for ``jump_after`` times. In a window that is not ``usable`` none has said anything.
        """
        elapsed = torch.as_tensor(elapsed_s, dtype=torch.float64, device=state.log.device).clamp(min=1e-3)
        age = state.age + elapsed
        settled = age.clamp(max=self.time_constant_s)
        most = torch.maximum(-torch.expm1(elapsed / -self.time_constant_s), elapsed / (age + elapsed))
        nothing, some = no_measurement(elapsed.device), numbers(elapsed.device)
        no = nothing.valid  # of flags, a < b is b and not a in one operation
        all_ = [nothing if one is None else one for one in measured]
        logs, variances, valid = (torch.stack([getattr(one, n) for one in all_]) for n in ("log", "variance", "valid"))
        refused = torch.stack([no if one.refused is None else one.refused for one in all_])
        valid, refused = torch.stack([valid, refused]) & usable
        said, valid = valid, valid & (state.misfits >= 0)
        variances = torch.where(valid, variances, some.one)  # any: it counts nothing
        repeated = (1.0 + settled / elapsed) * variances
        repeating = _REPEATED * variances
        misfits, idle = state.misfits + 1, state.idle + 1
        long_idle = (idle > self._jump_after).long()
        others_idle = long_idle.sum() - long_idle == len(all_) - 1
        may_jump = valid & (misfits >= self._jump_after) & others_idle
        log, variance = state.log, state.variance
        quiet = ~no  # no source has been taken in so far
        found = [(no, no, no, no)] * len(all_)  # of each: fits, jumps, is taken over, is taken in
        for source, one in enumerate(measured):
            if one is None:
                continue
            innovation = logs[source] - log
            first = variance >= UNKNOWN_VARIANCE / 2
            fits = first | (innovation.square() <= _GATE * (variance + variances[source]))
            jump = fits < (may_jump[source] & quiet)
            take_over = valid[source] & (first | jump)
            taken = valid[source] & (fits | jump)
            gain = torch.minimum(variance / (variance + repeated[source]), most)
            gain = torch.where(take_over, some.one, gain * taken)
            log = torch.addcmul(log, gain, innovation)
            left = torch.addcmul((1 - gain).square() * variance, gain.square(), repeating[source])
            variance = torch.where(take_over, variances[source], left)
            quiet = taken < quiet
            found[source] = fits, jump, take_over, taken
        fits, jumped, taken_over, used = torch.stack([flag for flags in found for flag in flags]).view(-1, 4).unbind(1)
        # Below zero it counts how often a source that was refused must still say something before it is heard again.
        misfits = torch.where(valid, misfits * ~(fits | taken_over), state.misfits + (valid < said))
        misfits = misfits.masked_fill(refused, -self._jump_after)
        age = torch.where(taken_over.any(), numbers(age.device).zero, age)
        return ScaleState(log, variance, misfits, idle * ~used, age, used, jumped, (used < said) | refused)


def combine(ratios: list[ScaleRatio]) -> ScaleRatio:
    """Inverse-variance mean of independent ratios; invalid ones count nothing."""
    valid = torch.stack([ratio.valid for ratio in ratios])
    # 1e-12: exact data would give infinite weights.
    weight = valid / torch.stack([ratio.variance for ratio in ratios]).clamp(min=1e-12)
    total, some = weight.sum(), numbers(weight.device)
    any_valid = valid.any()
    log = (weight * torch.stack([ratio.log for ratio in ratios])).sum() / torch.where(any_valid, total, some.one)
    steady = torch.stack([ratio.steady for ratio in ratios]).amin()
    return ScaleRatio(log, 1 / total, any_valid, steady)
