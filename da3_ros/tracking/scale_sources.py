"""What each source of metric scale says of one window: metres per unit of that window, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from da3_ros.tracking.rigid import weighted_median

# In the order in which they are heard: the strongest first.
SOURCES = ("rig", "odometry", "range", "metric_model")

_MAD_TO_STDDEV = 1.4826
# No source is better than this: calibrations, odometers and range sensors have scale errors of their own.
_SMALLEST_STDDEV = 0.002  # relative
# Of a single displacement: one alone, or few that happen to agree, say nothing of their own error.
_SINGLE_STDDEV = 0.05
# Beyond this relative deviation a source says nothing.
_LARGEST_STDDEV = 0.5


@dataclass(frozen=True)
class ScaleMeasurement:
    """Natural logarithm of the metres per unit of one window, from one source. Tensors (), float64."""

    log: Tensor  # 0 where not valid
    variance: Tensor  # of the logarithm; infinite where not valid
    valid: Tensor  # bool


def scale_from_vectors(
    known: Tensor, predicted: Tensor, independent: Tensor | int, equally_noisy: bool = False
) -> ScaleMeasurement:
    """From displacements (K, 3) that are known in metres and were predicted in the window's unit, K >= 0.

    Both in one frame, row by row: between the cameras of a rig in the frame of its body, or the body's way between
    two moments from its odometry, in its frame at the first of them. Each row's scale is the projection of the
    prediction onto what is known, which noise of the prediction does not lengthen, and counts by its squared length;
    the result is their weighted median. With ``equally_noisy`` both are estimates of one kind, and the scale is the
    ratio of lengths, which noise lengthens alike. Not valid where displacements are zero, contradict each other or
    point backwards.
    """
    if known.shape[0] == 0:
        return no_measurement(known.device)
    known, predicted = known.double(), predicted.double()
    weight = known.square().sum(-1)
    units = (known * predicted).sum(-1) / weight.clamp(min=1e-12)  # units per metre
    if equally_noisy:
        units = units.sign() * predicted.norm(dim=-1) / weight.clamp(min=1e-12).sqrt()
    median = weighted_median(units, weight)
    spread = _MAD_TO_STDDEV * weighted_median((units - median).abs(), weight)
    # What lies across the known direction is error, too.
    across = (predicted - units[:, None] * known).norm(dim=-1) / weight.sqrt().clamp(min=1e-6)
    spread = torch.maximum(spread, weighted_median(across, weight) / 2**0.5)
    effective = (weight.sum().square() / weight.square().sum().clamp(min=1e-12)).clamp(max=independent)
    spread = torch.maximum(spread, _SINGLE_STDDEV * median / effective.clamp(min=1.0))
    return measurement(median, spread / effective.clamp(min=1.0).sqrt(), usable=weight.sum() > 1e-8)


def scale_from_ranges(known: Tensor, predicted: Tensor) -> ScaleMeasurement:
    """From K >= 0 depths in metres, such as those of a range finder, and the predicted depth (K,) at their pixels.

    The median of the ratios; up to half of them may be wrong.
    """
    usable = torch.isfinite(known) & torch.isfinite(predicted) & (known > 0) & (predicted > 0)
    if known.shape[0] == 0:
        return no_measurement(known.device)
    ratio = torch.where(usable, predicted, 1.0).double() / torch.where(usable, known, 1.0).double()
    weight = usable.double()
    median = weighted_median(ratio, weight)
    spread = _MAD_TO_STDDEV * weighted_median((ratio - median).abs(), weight)
    # One reading alone says nothing of its own error: a tenth is what these networks miss single surfaces by.
    spread = torch.where(weight.sum() < 3, 0.1 * median, spread)
    return measurement(median, spread / weight.sum().clamp(min=1.0).sqrt(), usable=weight.sum() > 0)


def scale_from_metres(metres_per_unit: Tensor, stddev: Tensor | None) -> ScaleMeasurement:
    """From a metric network (or another that gives metres per unit () itself), with its standard deviation ().

    A deviation that is not known is taken as a tenth of the scale. However unsure, it is what the network says.
    """
    metres = metres_per_unit.double()
    spread = 0.1 * metres if stddev is None else torch.where(torch.isfinite(stddev), stddev.double(), 0.1 * metres)
    units = 1 / torch.where(metres > 0, metres, 1.0)
    usable = torch.isfinite(metres) & (metres > 0)
    return measurement(units, spread * units.square(), usable, largest=torch.inf)


def measurement(units: Tensor, stddev: Tensor, usable: Tensor, largest: float = _LARGEST_STDDEV) -> ScaleMeasurement:
    """Of units per metre () and their standard deviation ()."""
    relative = (stddev / units.clamp(min=1e-12)).clamp(min=_SMALLEST_STDDEV)
    valid = usable & (units > 0) & (relative <= largest)
    log = -torch.where(valid, units, 1.0).log()
    return ScaleMeasurement(log, torch.where(valid, relative.square(), torch.inf), valid)


def no_measurement(device: torch.device) -> ScaleMeasurement:
    zero = torch.zeros((), dtype=torch.float64, device=device)
    return ScaleMeasurement(zero, zero + torch.inf, zero > 0)
