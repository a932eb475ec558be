"""Pictures against real ones: structural similarity. PSNR is da3_ros.rendering's."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from da3_ros.errors import InputError
from da3_ros.rendering import psnr

__all__ = ["psnr", "ssim"]

# Wang et al. 2004: Gaussian window of 11 x 11 pixels, and the constants for values from 0 to 1.
_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = 0.01**2, 0.03**2


def ssim(images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean structural similarity (V,) of images (V, 3, H, W) and targets of the same shape, both in 0 to 1.

    Over all channels and all windows that lie wholly in the picture, which needs 11 pixels each way. Raises InputError
    for other shapes.
    """
    if images.shape != targets.shape or min(images.shape[-2:]) <= 2 * _RADIUS:
        raise InputError(
            f"images of shape {tuple(images.shape)} and {tuple(targets.shape)} cannot be compared: equal shapes of at "
            f"least {2 * _RADIUS + 1} pixels each way are needed"
        )
    a, b = images.double().clamp(0, 1), targets.double().clamp(0, 1)
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a = _blurred(a * a) - mean_a * mean_a
    variance_b = _blurred(b * b) - mean_b * mean_b
    covariance = _blurred(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    return (luminance * structure).flatten(1).mean(1)


def _blurred(images: torch.Tensor) -> torch.Tensor:
    """Weighted means (V, C, H - 10, W - 10) under the window."""
    offset = torch.arange(-_RADIUS, _RADIUS + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-(offset**2) / (2 * _SIGMA**2))
    weights = weights / weights.sum()
    planes = images.flatten(0, 1)[:, None]
    planes = F.conv2d(F.conv2d(planes, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))
    return planes.unflatten(0, images.shape[:2])[:, :, 0]
