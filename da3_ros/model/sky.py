"""What the networks with a sky output call sky, and the depth that it gets."""

import torch
from torch import Tensor

from da3_ros.model.masked import masked_quantile

SKY_THRESHOLD = 0.3
_FEWEST = 10                # the published code leaves depth alone unless both parts have more pixels than this
_FAR_QUANTILE = 0.99


def sky_mask(sky: Tensor) -> Tensor:
    """Which pixels are sky (bool), of the networks' sky output of any shape."""
    return ~(sky < SKY_THRESHOLD)


def without_sky(depth: Tensor, is_sky: Tensor) -> Tensor:
    """Depth with +Inf (beyond range, REP 117) where ``is_sky``."""
    return torch.where(is_sky, torch.inf, depth)


def far_depth(depth: Tensor, is_sky: Tensor) -> Tensor:
    """The depth that the published code gives to sky, (B, 1, 1, 1), of depth and is_sky (B, N, H, W).

    The 0.99 quantile of all that is not sky in the window. The published code estimates it from random samples
    where there are more than 100,000 such pixels; here it is exact.
    """
    return masked_quantile(depth.flatten(1), ~is_sky.flatten(1), _FAR_QUANTILE)[:, None, None, None]


def fill_sky_as_published(depth: Tensor, is_sky: Tensor) -> Tensor:
    """Depth (B, N, H, W) of a single-view network with sky treated as in the published code (see far_depth)."""
    sky_pixels = is_sky.flatten(1).sum(dim=1)
    enough = (sky_pixels > _FEWEST) & (is_sky[0].numel() - sky_pixels > _FEWEST)
    return torch.where(is_sky & enough[:, None, None, None], far_depth(depth, is_sky), depth)
