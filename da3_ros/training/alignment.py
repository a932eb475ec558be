"""A teacher's depth onto measured depth: scale and shift of each picture, although some measurements are wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_HYPOTHESES = 128           # pairs of points tried: with 40 % outliers all pairs are bad once in 10^25
_POINTS = 4096              # most points that vote
_TOLERANCE = 0.05           # of an inlier, relative to the measured depth
_LEAST_POINTS = 32
_LEAST_INLIERS = 0.3        # of the points


@dataclass(frozen=True)
class DepthFit:
    """measured = scale * teacher + shift, for each of V pictures; ``trusted`` (V,) where enough points agree on it."""

    scale: Tensor           # (V,)
    shift: Tensor           # (V,) metres
    inliers: Tensor         # (V,) share of the measured points
    trusted: Tensor         # (V,) bool

    def apply(self, depth: Tensor) -> Tensor:
        """Teacher's depth (V, H, W) in metres."""
        return self.scale[:, None, None] * depth + self.shift[:, None, None]


def fit_depth(teacher: Tensor, measured: Tensor, known: Tensor, generator: torch.Generator) -> DepthFit:
    """Scale and shift by random sampling and consensus, then least squares on those that agree; all pictures at once.

    ``teacher`` and ``measured`` (V, H, W) depths, the latter in metres, with ``known`` (V, H, W) bool where there is a
    measurement. Errors count relative to the distance. A fit that turns near into far is never chosen.
    """
    chosen = _choose(known.flatten(1), _POINTS, generator)                                      # (V, n)
    x = teacher.flatten(1).gather(1, chosen).double()
    y = measured.flatten(1).gather(1, chosen).double().clamp(min=1e-6)
    there = known.flatten(1).gather(1, chosen)

    pairs = _choose(there, 2 * _HYPOTHESES, generator).unflatten(1, (_HYPOTHESES, 2))           # (V, S, 2)
    views = torch.arange(len(x), device=x.device)[:, None, None]
    x2, y2 = x[views, pairs], y[views, pairs]
    run = x2[..., 1] - x2[..., 0]
    scale = (y2[..., 1] - y2[..., 0]) / torch.where(run.abs() < 1e-9, torch.nan, run)           # (V, S)
    shift = y2[..., 0] - scale * x2[..., 0]
    agreeing = _agree(scale, shift, x, y) & there[:, None]
    votes = torch.where(scale > 0, agreeing.sum(-1), -1)
    best = votes.argmax(1, keepdim=True)
    scale, shift = scale.gather(1, best), shift.gather(1, best)
    for _ in range(3):              # the least squares of those that agree may win further ones over
        scale, shift = _least_squares(x, y, _agree(scale, shift, x, y)[:, 0] & there)
    share = (_agree(scale, shift, x, y)[:, 0] & there).sum(1) / there.sum(1).clamp(min=1)
    scale, shift = scale[:, 0], shift[:, 0]
    sound = scale.isfinite() & shift.isfinite() & (scale > 0) & (known.flatten(1).sum(1) >= _LEAST_POINTS)
    trusted = sound & (share >= _LEAST_INLIERS)
    return DepthFit(
        torch.where(trusted, scale, 1.0).float(), torch.where(trusted, shift, 0.0).float(), share.float(), trusted
    )


def _choose(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Indices (V, count) of set entries of mask (V, n), with repetition; anything where none is set."""
    weights = mask.float() + torch.where(mask.any(1, keepdim=True), 0.0, 1.0)
    return torch.multinomial(weights, count, replacement=True, generator=generator)


def _agree(scale: Tensor, shift: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Which points (V, n) each of the fits (V, S) explains; (V, S, n)."""
    predicted = scale[..., None] * x[:, None] + shift[..., None]
    return (predicted - y[:, None]).abs() < _TOLERANCE * y[:, None]


def _least_squares(x: Tensor, y: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift (V, 1) with the least relative squared error over the points that count."""
    w = counts / y.square()
    total = w.sum(1, keepdim=True)
    mean_x, mean_y = (w * x).sum(1, keepdim=True) / total, (w * y).sum(1, keepdim=True) / total
    scale = (w * (x - mean_x) * (y - mean_y)).sum(1, keepdim=True) / (w * (x - mean_x).square()).sum(1, keepdim=True)
    return scale, mean_y - scale * mean_x
