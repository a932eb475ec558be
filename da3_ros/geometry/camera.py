"""The pinhole camera: depth to points (the only place in the package that does it), points to pixels, field of view.

Pixels are OpenCV's: (0, 0) is the centre of the first pixel, so an image spans -0.5 to width - 0.5. Points
are in the optical frame (x right, y down, z forward). ``K`` has no skew.
"""

from __future__ import annotations

import numpy as np
import torch


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Pixel centres (u, v) of an image, (H, W, 2) float32."""
    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float32, device=device),
        torch.arange(width, dtype=torch.float32, device=device),
        indexing="ij",
    )
    return torch.stack((u, v), dim=-1)


def unproject(depth: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """Points (..., H, W, 3) in the optical frame of z-depth (..., H, W) seen by ``K`` (..., 3, 3) in its pixels.

    Leading dimensions broadcast; units are those of ``depth``; NaN depth gives NaN points. Works in the dtype
    and on the device of ``depth``, without waiting for it.
    """
    height, width = depth.shape[-2:]
    K = K.to(dtype=depth.dtype, device=depth.device)
    u = torch.arange(width, dtype=depth.dtype, device=depth.device)
    v = torch.arange(height, dtype=depth.dtype, device=depth.device)
    ray_x = (u - K[..., 0, 2, None]) / K[..., 0, 0, None]  # (..., W)
    ray_y = (v - K[..., 1, 2, None]) / K[..., 1, 1, None]  # (..., H)
    return torch.stack((depth * ray_x[..., None, :], depth * ray_y[..., :, None], depth), dim=-1)


def project(points: torch.Tensor, K: torch.Tensor) -> torch.Tensor:
    """Pixels (u, v), (..., n, 2), of optical-frame points (..., n, 3) seen by ``K`` (..., 3, 3).

    Points at or behind the camera (z <= 0) have no pixel: NaN.
    """
    K = K.to(dtype=points.dtype, device=points.device)
    x, y, z = points.unbind(-1)
    z = torch.where(z > 0.0, z, torch.nan)
    u = K[..., 0, 0, None] * x / z + K[..., 0, 2, None]
    v = K[..., 1, 1, None] * y / z + K[..., 1, 2, None]
    return torch.stack((u, v), dim=-1)


def horizontal_fov(K: np.ndarray, width: int) -> float:
    """Angle between the left and the right edge of the image at the height of the principal point, in radians."""
    return _fov(float(K[0, 0]), float(K[0, 2]), width)


def vertical_fov(K: np.ndarray, height: int) -> float:
    """Angle between the upper and the lower edge of the image at the column of the principal point, in radians."""
    return _fov(float(K[1, 1]), float(K[1, 2]), height)


def _fov(focal: float, centre: float, pixels: int) -> float:
    return float(np.arctan((centre + 0.5) / focal) + np.arctan((pixels - 0.5 - centre) / focal))
