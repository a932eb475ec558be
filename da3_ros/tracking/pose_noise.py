"""How the errors of a network's poses grow with motion, learnt from what shared views are off in each window.

Some networks see two views the worse against each other the further they are apart, others all views alike. The square
of a view's error against the newest ones is taken to be proportional to 1 + ``growth`` m^2, m being its motion (see
gauge.squared_motion), and ``growth`` is the slope over the intercept of a running regression of squares of residuals
on squares of motion.
"""

from __future__ import annotations

import torch

from da3_ros.tracking.numbers import numbers

# Until there is something to go by: what da3-nano and simulated windows, whose errors do not grow, are both served by.
_START = 25.0
_START_VIEWS = 12.0  # by so many residuals at no motion, and as many at this square of it
_START_MOTION = 0.05
_KEPT = 0.98  # from a window to the next
_MOST = 100.0
_MOST_MOTION = 1.0  # squares beyond it count as this: few far views must not decide alone
_MOST_OFF = 9.0  # times the mean square, likewise
_SMALLEST = 1e-9  # mean square: below it residuals are rounding
_LEAST_LEFT = 0.1
_LEAST_VIEWS = 3  # of two views each is off by what the other one is


def unlearnt(device: torch.device) -> torch.Tensor:
    """Sums (6,) float64 of nothing but a guess: of 1, m^2, m^4, and of squares of residuals by 1 and m^2; then by which
    mean square residuals are divided, 0 before the first."""
    near = 2 / (2 + _START * _START_MOTION)
    far = 2 - near
    half, m = _START_VIEWS, _START_MOTION
    sums = [2 * half, half * m, half * m * m, half * (near + far), half * m * far, 0.0]
    return torch.tensor(sums, dtype=torch.float64, device=device)


def growth_of(sums: torch.Tensor) -> torch.Tensor:
    """Growth () of squares of errors with the square of motion, 0 to 100."""
    views, m, m_m, off, off_m, _ = sums.unbind()
    slope, intercept = views * off_m - m * off, m_m * off - m * off_m
    return (slope / intercept.clamp(min=1e-12)).clamp(0.0, _MOST)


def learn(sums: torch.Tensor, motion: torch.Tensor, residual: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """The sums with one window's more: squares of ``motion`` (N,) and of what is left (N,) of views that were laid on
    their poses by a mean in which they ``counted`` (N,), 0 for views that were not there before."""
    some = numbers(sums.device)
    seen = counted > 0
    there = seen.double()
    share = counted / counted.sum().clamp(min=1e-12)
    # A mean follows the views that count most, so that less of their errors is left.
    left = (1 - 2 * share + share.square().sum()).clamp(min=_LEAST_LEFT)
    off = torch.where(seen, residual, some.zero) / left
    views = there.sum()
    mean = off.sum() / views.clamp(min=1.0)
    heard = (mean > _SMALLEST) & (views >= _LEAST_VIEWS)
    usual = torch.where(sums[5] > 0, torch.lerp(sums[5], mean, 1 - _KEPT), mean)
    off = (off / usual.clamp(min=_SMALLEST)).clamp(max=_MOST_OFF)
    m = motion.clamp(max=_MOST_MOTION) * there
    new = torch.stack([there, m, m * m, off, off * m]).sum(-1)
    heard = heard & (new.sum() < torch.inf)  # false for NaN
    return torch.where(heard, torch.cat([torch.add(new, sums[:5], alpha=_KEPT), usual[None]]), sums)
