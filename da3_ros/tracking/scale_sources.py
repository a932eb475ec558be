"""What each source of metric scale says of one window: metres per unit of that window, with its uncertainty."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from da3_ros.tracking.numbers import numbers
from da3_ros.tracking.rigid import middle_median, weighted_median

# In the order in which they are heard: the strongest first.
SOURCES = ("rig", "odometry", "range", "metric_model")

_MAD_TO_STDDEV = 1.4826
# No source is better than this: calibrations, odometers and range sensors have scale errors of their own.
_SMALLEST_STDDEV = 0.002  # relative
# Of a single displacement: one alone, or few that happen to agree, say nothing of their own error.
_SINGLE_STDDEV = 0.05
# Tangent of the angle, root mean square by squared length, between predicted and known displacements beyond which the
# prediction is refused: 17 degrees.
_LARGEST_ASIDE = 0.3
# Deviations from the median up to which displacements count.
_KEPT = 4.0
# Beyond this relative deviation a source says nothing.
_LARGEST_STDDEV = 0.5


@dataclass(frozen=True)
class ScaleMeasurement:
    """Natural logarithm of the metres per unit of one window, from one source. Tensors (...), float64."""

    log: Tensor  # 0 where not valid
    variance: Tensor  # of the logarithm; infinite where not valid
    valid: Tensor  # bool
    refused: Tensor | None = None  # bool, not valid for contradicting what is known; None: it never does

    def unless(self, condition: Tensor) -> ScaleMeasurement:
        """The same, but it says nothing where ``condition`` (...) is true."""
        says = ~condition
        refused = None if self.refused is None else self.refused & says
        return replace(_where(self.valid & says, self.log, self.variance), refused=refused)

    def unbind(self) -> list[ScaleMeasurement]:
        """One after the other, of the first dimension."""
        refused = [None] * len(self.log) if self.refused is None else self.refused
        return [ScaleMeasurement(*one) for one in zip(self.log, self.variance, self.valid, refused, strict=True)]


def scale_from_vectors(
    known: Tensor, predicted: Tensor, independent: Tensor | int, equally_noisy: Tensor | bool = False
) -> ScaleMeasurement:
    """From displacements (..., K, 3) that are known in metres and were predicted in the window's unit, K >= 0.

    Both in one frame, row by row: between the cameras of a rig in the frame of its body, or the body's way between
    two moments from its odometry, in its frame at the first of them. Each row's scale is the projection of the
    prediction onto what is known, which noise of the prediction does not lengthen, and counts by its squared length;
    the result is the weighted mean of those near their median. With ``equally_noisy`` both are estimates of one kind,
    and the scale is the ratio of lengths, which noise lengthens alike. Not valid where displacements are zero,
    contradict each other or point backwards; refused where what was predicted points elsewhere than what is known: a
    network that does not see in which direction a camera stands from another one does not see how far either. Leading
    dimensions are measurements of their own, with ``independent`` (...) displacements and ``equally_noisy`` (...) each.
    """
    if known.shape[-2] == 0:
        return no_measurement(known.device, known.shape[:-2])
    known, predicted = known.double(), predicted.double()
    weight = known.square().sum(-1)
    squared = weight.clamp(min=1e-12)
    length = squared.sqrt()
    units = (known * predicted).sum(-1) / squared  # units per metre
    if equally_noisy is not False:
        alike = units.sign() * predicted.norm(dim=-1) / length
        units = alike if equally_noisy is True else torch.where(equally_noisy[..., None], alike, units)
    median = middle_median(units, weight)
    # What lies across the known direction is error, too.
    across_each = (predicted - units[..., None] * known).norm(dim=-1) / length
    off = (units - median[..., None]).abs()
    along, across = weighted_median(torch.stack([off, across_each]), weight)
    spread = torch.maximum(_MAD_TO_STDDEV * along, across / 2**0.5)
    kept = weight * (off <= _KEPT * spread[..., None])
    mean = (kept * units).sum(-1) / kept.sum(-1)  # less noisy than the median
    total = weight.sum(-1)
    effective = (total.square() / weight.square().sum(-1).clamp(min=1e-12)).clamp(max=independent).clamp(min=1.0)
    spread = torch.maximum(spread, _SINGLE_STDDEV * median / effective)
    somewhere = total > 1e-8
    # Where one alone is further aside than 45 degrees it counts as one there, and so does half a turn.
    aside = (across_each / units.clamp(min=1e-12)).square().clamp(max=1.0)
    aside = torch.where(units > 0, aside, numbers(known.device).one)
    refused = somewhere & ((weight * aside).sum(-1) > _LARGEST_ASIDE**2 * total)
    if equally_noisy is not False:
        refused = refused & ~equally_noisy if torch.is_tensor(equally_noisy) else torch.zeros_like(refused)
    found = measurement(mean, spread / effective.sqrt(), usable=somewhere & ~refused)
    return replace(found, refused=refused)


def scale_from_ranges(known: Tensor, predicted: Tensor) -> ScaleMeasurement:
    """From K >= 0 depths in metres, such as those of a range finder, and the predicted depth (K,) at their pixels.

    The median of the ratios; up to half of them may be wrong.
    """
    if known.shape[0] == 0:
        return no_measurement(known.device)
    both = torch.stack([predicted.double(), known.double()])
    usable = ((both > 0) & (both < torch.inf)).all(0)
    ratio = torch.where(usable, both[0] / both[1], numbers(both.device).one)
    weight = usable.double()
    median = middle_median(ratio, weight)
    spread = _MAD_TO_STDDEV * weighted_median((ratio - median).abs(), weight)
    # One reading alone says nothing of its own error: a tenth is what these networks miss single surfaces by.
    readings = weight.sum()
    spread = torch.where(readings < 3, 0.1 * median, spread)
    return measurement(median, spread / readings.clamp(min=1.0).sqrt(), usable=readings > 0)


def scale_from_metres(metres_per_unit: Tensor, stddev: Tensor | None) -> ScaleMeasurement:
    """From a metric network (or another that gives metres per unit () itself), with its standard deviation ().

    A deviation that is not known is taken as a tenth of the scale. However unsure, it is what the network says.
    """
    metres = metres_per_unit.double()
    spread = 0.1 * metres if stddev is None else torch.where(torch.isfinite(stddev), stddev.double(), 0.1 * metres)
    units = 1 / torch.where(metres > 0, metres, numbers(metres.device).one)
    usable = torch.isfinite(metres) & (metres > 0)
    return measurement(units, spread * units.square(), usable, largest=torch.inf)


def measurement(units: Tensor, stddev: Tensor, usable: Tensor, largest: float = _LARGEST_STDDEV) -> ScaleMeasurement:
    """Of units per metre () and their standard deviation ()."""
    relative = (stddev / units.clamp(min=1e-12)).clamp(min=_SMALLEST_STDDEV)
    valid = usable & (units > 0) & (relative <= largest)
    return _where(valid, -units.log(), relative.square())


def _where(valid: Tensor, log: Tensor, variance: Tensor) -> ScaleMeasurement:
    some = numbers(log.device)
    return ScaleMeasurement(torch.where(valid, log, some.zero), torch.where(valid, variance, some.infinity), valid)


@functools.cache
def no_measurement(device: torch.device, shape: tuple[int, ...] = ()) -> ScaleMeasurement:
    """Of a source that says nothing; nobody writes to it."""
    zero = torch.zeros(shape, dtype=torch.float64, device=device)
    return ScaleMeasurement(zero, zero + torch.inf, zero > 0)
