"""Point clouds as tensors: which pixels count, transforms, the voxel filter and the final PointCloud2 bytes."""

from __future__ import annotations

import torch

POINT_STEP = 16  # bytes of a point: float32 x, y, z and packed rgb
_KEY_BITS = 21  # bits of a voxel's index on each axis: three fit into an int64
_KEY_LIMIT = 1 << (_KEY_BITS - 1)


def transform_points(T: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
    """Points ``xyz`` (..., 3) in frame b mapped to frame a by ``T`` = T_a_b (4, 4)."""
    T = T.to(dtype=xyz.dtype, device=xyz.device)
    return xyz @ T[:3, :3].T + T[:3, 3]


def confidence_mask(confidence: torch.Tensor, percentile: float, valid: torch.Tensor) -> torch.Tensor:
    """Which pixels (..., H, W) are ``valid`` and not among the ``percentile`` percent least confident of their view.

    ``confidence`` and ``valid`` (bool) are (..., H, W); each (H, W) is a view of its own. Pixels that are not
    valid do not count, NaN is never confident. 0 keeps every valid pixel, 100 the most confident ones alone.
    No host synchronization.
    """
    valid = valid & ~confidence.isnan()
    if percentile <= 0.0:
        return valid
    ranked = torch.where(valid, confidence, torch.inf).flatten(-2).sort(dim=-1).values  # valid ones first
    last = (valid.flatten(-2).sum(dim=-1, keepdim=True) - 1).clamp(min=0)
    # The share is of the count, so that exactly it is dropped where all values differ.
    rank = torch.minimum((percentile / 100.0 * (last + 1)).floor().long(), last)
    return valid & (confidence >= ranked.gather(-1, rank)[..., None])


def pack_points(xyz: torch.Tensor, rgb: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Points to the bytes of a PointCloud2 with fields x, y, z, rgb (float32, offsets 0, 4, 8, 12): (H, W, 16) uint8.

    ``xyz``: (H, W, 3) float32; NaN where ``valid`` (H, W) is false. ``rgb``: (3, H, W) uint8; its field is a
    float32 with the bits 0x00RRGGBB, little endian.
    """
    packed = torch.zeros((*xyz.shape[:2], POINT_STEP), dtype=torch.uint8, device=xyz.device)
    points = torch.where(valid[..., None], xyz.to(torch.float32), torch.nan)
    packed[..., :12] = points.contiguous().view(torch.uint8)
    packed[..., 12:15] = rgb.flip(0).permute(1, 2, 0)
    return packed


def voxel_filter(xyz: torch.Tensor, rgb: torch.Tensor, voxel: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One point for each cube of side ``voxel`` that holds any: the means of their positions and colours.

    ``xyz``: (n, 3) float32, ``rgb``: (3, n) uint8; returns (m, 3) and (3, m), ordered by cube. The cubes'
    corner is the frame's origin. Points that are not finite, or 2^20 cubes or more from the origin on an
    axis, are dropped. Waits for the device, since m depends on the points.
    """
    cell = (xyz / voxel).floor()
    kept = (cell.abs() < _KEY_LIMIT).all(dim=-1)  # false for NaN
    xyz, rgb, cell = xyz[kept], rgb[:, kept], cell[kept].long() + _KEY_LIMIT
    key = (cell[:, 0] << 2 * _KEY_BITS) | (cell[:, 1] << _KEY_BITS) | cell[:, 2]
    cubes, cube_of, count = key.unique(return_inverse=True, return_counts=True)
    # Sums in float64: neither the order of the additions nor the distance from the origin shows in the
    # result.
    sums = torch.zeros((len(cubes), 6), dtype=torch.float64, device=xyz.device)
    sums.index_add_(0, cube_of, torch.cat((xyz.double(), rgb.T.double()), dim=1))
    means = sums / count[:, None]
    return means[:, :3].to(torch.float32), means[:, 3:].round().to(torch.uint8).T.contiguous()
