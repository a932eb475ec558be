"""Point clouds as tensors: which pixels count, transforms, the voxel filter and the final PointCloud2 bytes.

Nothing here waits for the device: how many points are left stays a tensor.
"""

from __future__ import annotations

import importlib.util

import numpy as np
import torch

POINT_STEP = 16  # bytes of a point: float32 x, y, z and packed rgb
_KEY_BITS = 21  # bits of a voxel's index on each axis: three fit into an int64
_KEY_LIMIT = 1 << (_KEY_BITS - 1)
_NO_KEY = torch.iinfo(torch.int64).max


def transform_points(T: torch.Tensor, xyz: torch.Tensor) -> torch.Tensor:
    """Points ``xyz`` (..., 3) in frame b mapped to frame a by ``T`` = T_a_b (4, 4), in the dtype of ``xyz``.

    Sums of products and no matrix product, which may be set to TF32 on CUDA: that has 11 bits.
    """
    T = T.to(dtype=xyz.dtype, device=xyz.device)
    moved = torch.addcmul(T[:3, 3], xyz[..., 0:1], T[:3, 0])
    return moved.addcmul_(xyz[..., 1:2], T[:3, 1]).addcmul_(xyz[..., 2:3], T[:3, 2])


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
    """Points to the bytes of a PointCloud2 with fields x, y, z, rgb (float32, offsets 0, 4, 8, 12): (..., H, W, 16).

    The result is uint8. ``xyz``: (..., H, W, 3) float32; NaN where ``valid`` (..., H, W) is false. ``rgb``:
    (..., 3, H, W) uint8; its field is a float32 with the bits 0x00RRGGBB.
    """
    packed = torch.empty((*xyz.shape[:-1], POINT_STEP // 4), dtype=torch.float32, device=xyz.device)
    packed[..., :3] = torch.where(valid[..., None], xyz, torch.nan)
    red, green, blue = rgb.to(torch.int32).unbind(-3)
    packed.view(torch.int32)[..., 3] = (red << 16) | (green << 8) | blue
    return packed.view(torch.uint8)


def unpack_points(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) float32 and their colours (n, 3) uint8 RGB of ``data``, the bytes (..., 16) of ``pack_points``.

    Points that are not finite are left out.
    """
    words = np.ascontiguousarray(data).reshape(-1, POINT_STEP).view("<u4")
    xyz = words[:, :3].view("<f4")
    rgb = (words[:, 3:] >> np.array([16, 8, 0], np.uint32)).astype(np.uint8)
    known = np.isfinite(xyz).all(axis=1)
    return xyz[known], rgb[known]


def compact(points: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``valid`` (n,) ones of packed ``points`` (n, 16) first, in their order, and how many they are, () int64.

    The result is (n, 16) too; what its rows after the valid ones hold has no meaning. No host synchronization.
    """
    last = len(points)  # one row more, for all that are not valid
    row = torch.where(valid, valid.cumsum(0) - 1, last)
    words = points.new_empty((last + 1, POINT_STEP)).view(torch.int32)
    words.index_copy_(0, row, points.view(torch.int32))
    return words[:last].view(torch.uint8), valid.sum()


def voxel_filter(
    xyz: torch.Tensor, rgb: torch.Tensor, valid: torch.Tensor, voxel: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One point for each cube of side ``voxel`` that holds any: the means of their positions and colours.

    ``xyz``: (n, 3) float32, ``rgb``: (3, n) uint8, ``valid``: (n,) which of them count. Returns (n, 3), (3, n) and
    the number of cubes () int64, of which the first rows are, ordered by cube; the rest has no meaning. The cubes'
    corner is the frame's origin. Points that are not finite, or 2^20 cubes or more from the origin on an axis, are
    dropped. No host synchronization.
    """
    cell = (xyz / voxel).floor()
    kept = valid & (cell.abs() < _KEY_LIMIT).all(dim=-1)  # false for NaN
    cell = torch.where(kept[:, None], cell, 0.0).long() + _KEY_LIMIT
    key = (cell[:, 0] << 2 * _KEY_BITS) | (cell[:, 1] << _KEY_BITS) | cell[:, 2]
    key, order = torch.where(kept, key, _NO_KEY).sort()  # points of one cube side by side, the dropped ones last
    first = torch.ones_like(kept)
    first[1:] = key[1:] != key[:-1]
    cube = first.cumsum(0) - 1
    # Sums in float64: neither the order of the additions nor the distance from the origin shows in the
    # result.
    values = torch.cat((xyz.double(), rgb.T.double(), torch.ones_like(xyz[:, :1], dtype=torch.float64)), dim=1)
    sums = torch.zeros_like(values).index_add_(0, cube, values[order])
    means = sums[:, :6] / sums[:, 6:]
    colours = torch.nan_to_num(means[:, 3:]).round().to(torch.uint8)
    return means[:, :3].to(torch.float32), colours.T.contiguous(), (first & (key != _NO_KEY)).sum()


def lower_median(values: torch.Tensor) -> torch.Tensor:
    """Median (...) over the last two dimensions of ``values`` (..., H, W) without NaN; of two middle ones the lower.

    NaN where all are. No host synchronization.
    """
    flat = values.flatten(-2)
    if not flat.is_cuda:
        return flat.nanmedian(dim=-1).values
    if importlib.util.find_spec("triton") is not None:
        from da3_ros.geometry.select_kernels import lower_median as select

        return select(flat.reshape(-1, flat.shape[-1])).view(flat.shape[:-1])
    ranked = flat.sort(dim=-1).values  # NaN last; nanmedian does a slice with a single block there
    middle = ((~ranked.isnan()).sum(dim=-1, keepdim=True) - 1).clamp_(min=0) // 2
    return ranked.gather(-1, middle)[..., 0]
