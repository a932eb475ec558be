"""Depth at the size of the camera's image, without inventing points between near and far surfaces."""

from __future__ import annotations

import functools

import torch

from da3_ros.geometry.views import ViewPlan

# Neighbours whose depths differ by more than this share are on different surfaces.
_SURFACE_STEP = 0.05
_KEPT_PLANS = 32


def depth_to_input_size(depth: torch.Tensor, plan: ViewPlan, K: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth of the content (h, w) to the input image's size (H, W), and the intrinsics (3, 3) that belong to it.

    ``K`` (3, 3): intrinsics in use for ``depth``, in its pixels; with the plan's own K the result is the
    calibrated K. The result is a pinhole image without distortion. Inverse depth is interpolated linearly,
    which is exact for planes, where the four neighbours lie on one surface; elsewhere the nearest pixel's
    depth is taken, as it is for neighbours that are NaN or Inf. Pixels outside the content are NaN. No host
    synchronization.
    """
    rows, columns = _neighbours(plan, depth.device)
    corners = [depth[row][:, column] for row in (rows.low, rows.high) for column in (columns.low, columns.high)]
    nearest = depth[rows.nearest][:, columns.nearest]

    y, x = rows.share[:, None], columns.share[None, :]
    upper = (1.0 - x) / corners[0] + x / corners[1]
    lower = (1.0 - x) / corners[2] + x / corners[3]
    smooth = 1.0 / ((1.0 - y) * upper + y * lower)
    low = torch.minimum(torch.minimum(corners[0], corners[1]), torch.minimum(corners[2], corners[3]))
    high = torch.maximum(torch.maximum(corners[0], corners[1]), torch.maximum(corners[2], corners[3]))
    # False for NaN and Inf among the neighbours, since comparisons with NaN are.
    one_surface = high - low <= _SURFACE_STEP * low
    full = torch.where(one_surface, smooth, nearest)
    full = torch.where(rows.inside[:, None] & columns.inside[None, :], full, torch.nan)
    return full, _full_K(K, plan)


class _Neighbours:
    """Which content samples of one axis surround each sample of the full axis, and how far along it lies."""

    def __init__(self, n_content: int, n_full: int, start: float, scale: float, device: torch.device):
        position = (torch.arange(n_full, dtype=torch.float32, device=device) + 0.5 - start) / scale - 0.5
        self.inside = (position >= -0.5) & (position <= n_content - 0.5)
        position = position.clamp(0.0, n_content - 1.0)
        self.low = position.floor().long()
        self.high = (self.low + 1).clamp(max=n_content - 1)
        self.nearest = (position + 0.5).floor().long().clamp(max=n_content - 1)
        self.share = position - self.low


@functools.lru_cache(maxsize=_KEPT_PLANS)
def _neighbours(plan: ViewPlan, device: torch.device) -> tuple[_Neighbours, _Neighbours]:
    """Rows and columns of a plan; the same in every step."""
    (height, width), (full_height, full_width) = plan.view.content[2:], plan.input_hw
    return (
        _Neighbours(height, full_height, plan.box[0], plan.scale_yx[0], device),
        _Neighbours(width, full_width, plan.box[1], plan.scale_yx[1], device),
    )


def _full_K(K: torch.Tensor, plan: ViewPlan) -> torch.Tensor:
    """Intrinsics of the input-size image from those of the content: the inverse of the resampling."""
    sy, sx = plan.scale_yx
    full = K.clone()
    full[0, 0] = K[0, 0] * sx
    full[1, 1] = K[1, 1] * sy
    full[0, 2] = (K[0, 2] + 0.5) * sx + plan.box[1] - 0.5
    full[1, 2] = (K[1, 2] + 0.5) * sy + plan.box[0] - 0.5
    return full
