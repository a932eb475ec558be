"""Metres for an any-view network: its depth against that of the metric network for the same images.

The metric network predicts depth for a canonical focal length; ``in_metres`` makes metres of it. Two ways lead from
there to the one factor that the window's depth and translations are multiplied by: ``robust_scale``, the default, and
``published_scale``, which gives the published code's numbers.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from da3_ros.model.masked import masked_quantile, weighted_median

_NEAREST_METRES = 1e-2      # metric depth below this does not count
_NEAREST_UNITS = 1e-3       # nor does depth of the any-view network below this
_FEWEST_PIXELS = 10         # a view (as published: a window) needs more pixels than this that are not sky
_NORMAL = 1.4826            # standard deviation of a normal distribution by its median absolute deviation


class Scale(NamedTuple):
    """Metres per unit of the any-view network, one for each window; NaN where nothing tells it."""

    metres: Tensor          # (B,) fp32
    stddev: Tensor          # (B,) fp32


def in_metres(depth: Tensor, focal: Tensor, canonical_focal: float) -> Tensor:
    """Depth (..., H, W) of the metric network in metres; ``focal`` (...) is the mean of fx and fy in its pixels."""
    return depth * (focal / canonical_focal)[..., None, None]


def mean_focal(intrinsics: Tensor) -> Tensor:
    """Mean of fx and fy (...) of intrinsics (..., 3, 3)."""
    return (intrinsics[..., 0, 0] + intrinsics[..., 1, 1]) / 2


def robust_scale(metres: Tensor, depth: Tensor, confidence: Tensor, usable: Tensor) -> Scale:
    """The factor from ``depth`` to ``metres``, both (B, N, H, W), that half of the evidence lies on either side of.

    Of each view the half of its ``usable`` (bool) pixels with the higher ``confidence`` counts; their median ratio
    is the view's own scale, and the window's is the median of these, each weighted with the sum of 1 - 1 /
    confidence over its pixels. So a covered, wet or miscalibrated camera does not move the scale as long as the
    others hold more than half of the weight, and a view of nothing but sky has no say. ``stddev`` is the spread of
    the pixels' own ratios about the scale (normal-consistent median absolute deviation); it is not divided by the
    number of pixels or views, because errors of neighbours go together.
    """
    usable = usable & (metres > _NEAREST_METRES) & (depth > _NEAREST_UNITS) & metres.isfinite() & depth.isfinite()
    usable, confidence = usable.flatten(-2), confidence.flatten(-2)                         # (B, N, H * W)
    usable = usable & (confidence >= masked_quantile(confidence, usable, 0.5)[..., None])
    log_ratio = (metres / depth).log().flatten(-2)
    weight = torch.where(usable, 1 - 1 / confidence, 0.0).sum(dim=-1)                       # (B, N)
    weight = torch.where(usable.sum(dim=-1) > _FEWEST_PIXELS, weight, 0.0)
    log_scale = weighted_median(masked_quantile(log_ratio, usable, 0.5), weight)            # (B,)
    deviation = masked_quantile((log_ratio - log_scale[:, None, None]).abs(), usable, 0.5)
    scale = log_scale.exp()
    return Scale(scale, _NORMAL * weighted_median(deviation, weight) * scale)


def published_scale(metres: Tensor, depth: Tensor, confidence: Tensor, is_sky: Tensor) -> Tensor:
    """Metres per unit (B,) as in the published code: least squares over all views of the window together.

    Pixels count that are not sky and at least as confident as the median of these; the published code estimates the
    median from random samples where there are more than 100,000, here it is exact. NaN where the published code
    raises: with ten or fewer pixels that are not sky.
    """
    metres, depth, confidence, seen = (one.flatten(1) for one in (metres, depth, confidence, ~is_sky))
    counts = seen & (confidence >= masked_quantile(confidence, seen, 0.5)[:, None])
    counts = counts & (metres > _NEAREST_METRES) & (depth > _NEAREST_UNITS)
    products = torch.where(counts, metres * depth, 0.0).sum(dim=1)
    squares = torch.where(counts, depth * depth, 0.0).sum(dim=1)
    return torch.where(seen.sum(dim=1) > _FEWEST_PIXELS, products / squares.clamp(min=1e-12), torch.nan)
