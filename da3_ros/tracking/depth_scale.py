"""How many metres a unit of the new window is, from depth alone: old views' depth in metres against the newest set's.

Only the newest set is decoded in a step, so no view has depth in two windows. But every old view keeps a coarse depth
map, in metres, from when it was new; carried over into the newest views by the new window's own poses, its points must
lie where the newest depth says. That holds while the camera turns on the spot or stands still, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

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


def scale_by_depth(old: OldViews, new: NewViews, T_new_old: Tensor, log_guess: Tensor) -> tuple[ScaleRatio, Tensor]:
    """Metres per unit of the new window, and the largest share () of an old view's weight that a newest view sees.

    ``T_new_old`` (M, V, 4, 4) are the new window's own poses, in its unit. A point X (metres) of an old view comes to
    lie at R X + s t in a new one and is there where the depth reads z = s D, so s = (R X)_z / (D - t_z); where it is
    read depends on s, from ``log_guess`` () on. The scale is the location of all those logarithms: up to half of the
    weight may be moving objects, hidden surfaces or wrong depth.
    """
    R, t = T_new_old[..., :3, :3].float(), T_new_old[..., None, :3, 3].float()  # (M, V, 1, 3)
    X = old.depth[..., None] * old.rays  # (V, P, 3)
    # Sums of products: matrix products may be set to TF32 on CUDA, which has 11 bits.
    turned = (X[None, :, :, None] * R[:, :, None]).sum(-1)  # (M, V, P, 3)
    inverse = torch.where(new.depth > 0, 1.0 / new.depth.float().clamp(min=1e-9), torch.nan)
    log = log_guess
    for _ in range(_COARSE_ITERATIONS):
        coarse, _ = _compare(inverse, new, turned[:, :, ::_COARSE], t, old.weight[:, ::_COARSE], log)
        log = torch.where(coarse.valid, coarse.log, log)
    return _compare(inverse, new, turned, t, old.weight, log)


def _compare(
    inverse: Tensor, new: NewViews, turned: Tensor, t: Tensor, weight: Tensor, log: Tensor
) -> tuple[ScaleRatio, Tensor]:
    """The scale from R X (M, V, P, 3), t (M, V, 1, 3) and weights (V, P), read where ``log`` () says; largest share."""
    read, inside, smooth = _read(inverse, new, turned + log.exp().float() * t)  # units
    s = turned[..., 2] / (read - t[..., 2])
    usable = inside & smooth & torch.isfinite(s) & (s > 0)
    share = (inside * weight).sum(-1) / weight.sum(-1).clamp(min=1e-9)
    weight = usable * weight
    values = torch.where(usable, s, 1.0).log()
    return _location(values.flatten(), weight.flatten(), (weight > 0).sum(-1)), share.amax().double()


def _read(inverse: Tensor, new: NewViews, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Depth (M, V, P) at the pixels of points (M, V, P, 3) in the new views, whether they have such pixels, and
    whether the depth around them is that of one surface.

    ``inverse`` (M, H, W): inverse depth, which is linear in the pixels of a plane.
    """
    height, width = inverse.shape[-2:]
    x, y, z = point.unbind(-1)
    K, content = new.K.float()[..., None, None], new.content.float()[..., None, None]  # per view: (M, 1, 1)
    front = z > 1e-6
    z = torch.where(front, z, 1.0)
    u, v = K[:, 0, 0] * x / z + K[:, 0, 2], K[:, 1, 1] * y / z + K[:, 1, 2]
    top, left, rows, columns = content.unbind(1)
    inside = front & (u >= left) & (v >= top) & (u <= left + columns - 1) & (v <= top + rows - 1)
    u, v = torch.where(inside, u, 0.0), torch.where(inside, v, 0.0)
    u0, v0 = u.floor().clamp(max=width - 2), v.floor().clamp(max=height - 2)
    du, dv = u - u0, v - v0
    index = (v0.long() * width + u0.long()).flatten(1)
    flat = inverse.flatten(1)

    def corner(offset: int) -> Tensor:
        return flat.gather(1, index + offset).view_as(u)

    a, b, c, d = corner(0), corner(1), corner(width), corner(width + 1)
    low = torch.minimum(torch.minimum(a, b), torch.minimum(c, d))
    high = torch.maximum(torch.maximum(a, b), torch.maximum(c, d))
    smooth = high <= _LARGEST_STEP * low  # no edge, and none of the four is far off; false for NaN
    return 1.0 / torch.lerp(torch.lerp(a, b, du), torch.lerp(c, d, du), dv), inside, smooth


def _location(log: Tensor, weight: Tensor, pixels: Tensor) -> ScaleRatio:
    """Of the logarithms (n,) by weight (n,); ``pixels`` (M, V) of each pair of views took part."""
    median = weighted_median(log, weight)
    residual = (log - median).abs()
    spread = _MAD_TO_STDDEV * weighted_median(residual, weight)
    total = weight.sum().clamp(min=1e-9)
    kept = weight * (residual <= 2 * spread + 1e-6)
    mean = (kept * (log - median)).sum() / kept.sum().clamp(min=1e-9) + median  # less noisy than the median
    pairs = (pixels >= _FEWEST_PIXELS // _COARSE).double()
    new, old = pairs.amax(1).sum(), pairs.amax(0).sum()
    variance = spread.double().square() / (_INDEPENDENT_PER_VIEW * pairs.sum()).clamp(min=1.0)
    variance = variance + _VIEW_STDDEV**2 * (1 / new.clamp(min=1.0) + 1 / old.clamp(min=1.0))
    valid = (pairs.sum() > 0) & (spread <= _LARGEST_SPREAD)
    steady = (weight * (residual <= 3 * spread + 1e-6)).sum() / total
    return ScaleRatio(
        torch.where(valid, mean, 0.0).double(), torch.where(valid, variance, torch.inf), valid, steady.double()
    )
