"""How many metres a unit of the new window is, from depth alone: old views' depth in metres against the newest set's.

Only the newest set is decoded in a step, so no view has depth in two windows. But every old view keeps a coarse depth
map, in metres, from when it was new; carried over into the newest views by the new window's own poses, its points must
lie where the newest depth says. That holds while the camera turns on the spot or stands still, too.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from da3_ros.tracking.numbers import numbers
from da3_ros.tracking.rigid import weighted_median

_MAD_TO_STDDEV = 1.4826
# Depth errors of neighbouring pixels are one error: a pair of views counts as this many independent measurements.
_INDEPENDENT_PER_VIEW = 64.0
_FEWEST_PIXELS = 64
# Relative spread of the depth ratio beyond which the two maps do not show the same surfaces.
_LARGEST_SPREAD = 0.5
_COARSE, _COARSE_ITERATIONS = 4, 2  # every so manieth pixel is enough to find where to read
# A view's depth is off as a whole by about this much (relative), which more pixels of it do not average away.
_VIEW_STDDEV = 0.01
# Neighbouring pixels whose depth differs by a larger factor belong to different surfaces, or one of them is wrong.
_LARGEST_STEP = 1.3


@dataclass(frozen=True)
class ScaleRatio:
    """Natural logarithm of a scale and what it is worth."""

    log: Tensor  # () float64; 0 where not valid
    variance: Tensor  # () of the logarithm; infinite where not valid
    valid: Tensor  # () bool
    steady: Tensor  # () float64, share of the weight within 3 robust deviations: low with moving objects


class OldViews(NamedTuple):
    """Coarse maps of V views seen before; ``rays`` (V, P, 3) with z = 1 go through their P pixels."""

    depth: Tensor  # (V, P) metres
    weight: Tensor  # (V, P) >= 0
    rays: Tensor  # (V, P, 3)


class NewViews(NamedTuple):
    """Depth of the M newest views in the window's unit, at full size."""

    depth: Tensor  # (M, H, W)
    K: Tensor  # (M, 3, 3)
    content: Tensor  # (M, 4) top, left, height, width of what is no padding


class Overlay:
    """Old views laid into the new ones: what does not hang on how long a unit is.

    ``T_new_old`` (M, V, 4, 4) are the new window's own poses, in its unit. A point X (metres) of an old view comes to
    lie at R X + s t in a new one and is there where the depth reads z = s D, so s = (R X)_z / (D - t_z).
    """

    def __init__(self, old: OldViews, new: NewViews, T_new_old: Tensor):
        T = T_new_old.float()
        R, self.t = T[..., :3, :3], T[..., None, :3, 3]  # (M, V, 1, 3)
        X = old.depth[..., None] * old.rays  # (V, P, 3)
        # Sums of products: matrix products may be set to TF32 on CUDA, which has 11 bits.
        self.turned = (X[None, :, :, None] * R[:, :, None]).sum(-1)  # (M, V, P, 3)
        self.weight = old.weight
        self.surfaces = _Surfaces(new)


def scale_by_depth(overlay: Overlay, log_guess: Tensor) -> tuple[ScaleRatio, Tensor]:
    """Metres per unit of the new window, and the largest share () of an old view's weight that a newest view sees.

    Where the points of ``overlay`` are read depends on the scale, from ``log_guess`` () on. The scale is the location
    of all their logarithms: up to half of the weight may be moving objects, hidden surfaces or wrong depth.
    """
    surfaces, turned, t, weight = overlay.surfaces, overlay.turned, overlay.t, overlay.weight
    log, coarse, few = log_guess, turned[:, :, ::_COARSE], weight[:, ::_COARSE]
    for _ in range(_COARSE_ITERATIONS):
        values, counts, _ = _compare(surfaces, coarse, t, few, log)
        median, spread, _ = _median(values, counts)
        enough = ((counts > 0).sum(-1) >= _FEWEST_PIXELS // _COARSE).any()
        log = torch.where(enough & (spread <= _LARGEST_SPREAD), median.double(), log)
    values, counts, inside = _compare(surfaces, turned, t, weight, log)
    share = (inside * weight).sum(-1) / weight.sum(-1).clamp(min=1e-9)
    return _location(values, counts), share.amax().double()


class _Surfaces:
    """Where and how to read the new views; each tensor (M, 1, 1, 2) is for columns and rows."""

    def __init__(self, new: NewViews):
        self.width = new.depth.shape[-1]
        # Inverse depth is linear in the pixels of a plane. Depth that is not positive becomes infinite, NaN stays.
        self.inverse = new.depth.float().clamp(min=0.0).reciprocal().flatten(1)  # (M, H W)
        K, content = new.K.float()[:, None, None], new.content.float()[:, None, None]
        self.focal, self.centre = K[..., :2, :2].diagonal(dim1=-2, dim2=-1), K[..., :2, 2]
        self.first = content[..., :2].flip(-1)
        self.last = self.first + content[..., 2:].flip(-1) - 1
        self.last_corner = (self.last - 1).clamp(min=0.0)
        self.corners = _corners(self.width, new.depth.device)

    def read(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Depth (M, V, P) at the pixels of points (M, V, P, 3) in the new views, whether they have such pixels, and
        whether the depth around them is that of one surface."""
        z = point[..., 2:]
        pixel = self.focal * (point[..., :2] / z) + self.centre
        # False for NaN, too.
        inside = ((pixel.clamp(self.first, self.last) == pixel) & (z > 1e-6)).all(-1)
        pixel = torch.where(inside[..., None], pixel, numbers(pixel.device).zero32)
        corner = torch.minimum(pixel.floor(), self.last_corner)
        part = pixel - corner
        index = torch.add(corner[..., 0], corner[..., 1], alpha=self.width).long()  # exact up to 2^24 pixels
        four = self.inverse.gather(1, (index[..., None] + self.corners).flatten(1)).view(*index.shape, 4)
        least, most = four.aminmax(dim=-1)
        smooth = most <= _LARGEST_STEP * least  # no edge, and none of the four is far off or NaN
        two = torch.lerp(four[..., ::2], four[..., 1::2], part[..., :1])
        return torch.lerp(two[..., 0], two[..., 1], part[..., 1]).reciprocal(), inside, smooth


@functools.cache
def _corners(width: int, device: torch.device) -> Tensor:
    """(4,) indices of a pixel and its neighbours to the right and below, from its own, in images of this width."""
    pair = torch.arange(2, device=device)
    return (pair[:, None] * width + pair).flatten()


def _compare(
    surfaces: _Surfaces, turned: Tensor, t: Tensor, weight: Tensor, log: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logarithms of the scale by each point from R X (M, V, P, 3) and t (M, V, 1, 3), read where ``log`` () says;
    their weights, from those of old views (V, P); which points are in view. (M, V, P) each."""
    read, inside, smooth = surfaces.read(turned + log.exp().float() * t)  # units
    s = turned[..., 2] / (read - t[..., 2])
    log = s.log()  # not finite where s is not, or is not positive
    usable = inside & smooth & (log.abs() < torch.inf)
    return torch.where(usable, log, numbers(s.device).zero32), usable * weight, inside


def _median(log: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Median () of logarithms by weight, (M, V, P) each, their robust deviation (), and what each is off."""
    median = weighted_median(log.flatten(), weight.flatten())
    residual = (log - median).abs()
    return median, _MAD_TO_STDDEV * weighted_median(residual.flatten(), weight.flatten()), residual


def _location(log: Tensor, weight: Tensor) -> ScaleRatio:
    """Of logarithms by weight, (M, V, P) each."""
    median, spread, residual = _median(log, weight)
    total = weight.sum().clamp(min=1e-9)
    kept = weight * (residual <= 2 * spread + 1e-6)
    mean = (kept * (log - median)).sum() / kept.sum().clamp(min=1e-9) + median  # less noisy than the median
    pairs = ((weight > 0).sum(-1) >= _FEWEST_PIXELS // _COARSE).double()
    new, old = pairs.amax(1).sum(), pairs.amax(0).sum()
    variance = spread.double().square() / (_INDEPENDENT_PER_VIEW * pairs.sum()).clamp(min=1.0)
    variance = variance + _VIEW_STDDEV**2 * (1 / new.clamp(min=1.0) + 1 / old.clamp(min=1.0))
    valid = (new > 0) & (spread <= _LARGEST_SPREAD)
    steady = (weight * (residual <= 3 * spread + 1e-6)).sum() / total
    some = numbers(log.device)
    log = torch.where(valid, mean.double(), some.zero)
    return ScaleRatio(log, torch.where(valid, variance, some.infinity), valid, steady.double())
