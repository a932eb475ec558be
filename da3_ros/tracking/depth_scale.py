"""How much larger the same surfaces are in one window than in another, from the depth of views that both decoded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from da3_ros.tracking.rigid import weighted_median

_MAD_TO_STDDEV = 1.4826
# Depth errors of neighbouring pixels are one error: a view counts as this many independent measurements.
_INDEPENDENT_PER_VIEW = 64.0
_FEWEST_PIXELS = 64
# Relative spread of the depth ratio beyond which the two maps do not show the same surfaces.
_LARGEST_SPREAD = 0.5


@dataclass(frozen=True)
class ScaleRatio:
    """Natural logarithm of the later window's unit in units of the earlier one, and what it is worth."""

    log: Tensor  # () float64; 0 where not valid
    variance: Tensor  # () of the logarithm; infinite where not valid
    valid: Tensor  # () bool
    steady: Tensor  # () float64, share of the weight within 3 robust deviations: low with moving objects


def depth_ratio(earlier: Tensor, later: Tensor, confidence: Tensor | None = None) -> ScaleRatio:
    """The factor from depth ``later`` (V, h, w) to ``earlier`` (V, h, w), pixel by pixel of the same V views.

    A robust location, the confidence-weighted median of log(earlier / later): up to half of the weight may be moving
    objects or wrong depth. ``confidence`` (V, h, w) >= 0 weighs pixels; what is not finite and positive in both
    counts nothing. V may be 0.
    """
    both = torch.isfinite(earlier) & torch.isfinite(later) & (earlier > 0) & (later > 0)
    log = torch.where(both, earlier, 1.0).double().log() - torch.where(both, later, 1.0).double().log()
    weight = both.double()
    if confidence is not None:
        weight = weight * torch.where(both, confidence, 0.0).double().clamp(min=0.0)
    log, weight = log.flatten(), weight.flatten()
    if log.numel() == 0:
        nothing = torch.zeros((), dtype=torch.float64, device=earlier.device)
        return ScaleRatio(nothing, nothing + torch.inf, nothing > 0, nothing)
    median = weighted_median(log, weight)
    residual = (log - median).abs()
    spread = _MAD_TO_STDDEV * weighted_median(residual, weight)
    steady = (weight * (residual <= 3 * spread + 1e-6)).sum() / weight.sum().clamp(min=1e-12)
    pixels = (weight > 0).sum()
    views = both.flatten(1).any(1).sum()
    # The median of n measurements has pi / 2 of the variance of their mean.
    variance = torch.pi / 2 * spread.square() / (_INDEPENDENT_PER_VIEW * views).clamp(min=1.0)
    valid = (pixels >= _FEWEST_PIXELS) & (spread <= _LARGEST_SPREAD)
    return ScaleRatio(torch.where(valid, median, 0.0), torch.where(valid, variance, torch.inf), valid, steady)
