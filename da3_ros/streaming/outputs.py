"""From a prediction to the bytes that are published: everything is assembled on the device, then copied once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from da3_ros.config import PointsConfig
from da3_ros.geometry.camera import unproject
from da3_ros.geometry.clouds import confidence_mask, pack_points, transform_points, voxel_filter
from da3_ros.geometry.image import ViewPlan, depth_to_input_size

_MILLIMETRES = 1000.0
_LARGEST_16UC1 = 65535


@dataclass(frozen=True)
class DenseView:
    """Dense maps of one decoded view, cropped to the camera's content, on the device."""

    camera: str
    depth: torch.Tensor  # (H, W) float32, NaN invalid, +Inf beyond range
    confidence: torch.Tensor | None  # (H, W) float32, NaN where depth is invalid
    colours: torch.Tensor  # (3, H, W) uint8
    K: torch.Tensor  # (3, 3) float32, pixels of this map


def crop_view(
    plan: ViewPlan,
    depth: torch.Tensor,
    confidence: torch.Tensor | None,
    colours: torch.Tensor,
    sky: torch.Tensor | None,
    K: torch.Tensor,
    metres_per_unit: torch.Tensor | float,
) -> DenseView:
    """Cut the camera's content out of canvas-sized maps (H, W) and mark what is not valid.

    ``K``: (3, 3) of the canvas. Depth is multiplied by ``metres_per_unit``. Sky is +Inf, all else that is not
    finite and positive is NaN (REP 117).
    """
    top, left, height, width = plan.view.content
    window = (slice(top, top + height), slice(left, left + width))
    depth = depth[window] * metres_per_unit
    invalid = ~(torch.isfinite(depth) & (depth > 0))
    if sky is not None:
        invalid = invalid & ~sky[window]
        depth = torch.where(sky[window], torch.inf, depth)
    depth = depth.masked_fill(invalid, torch.nan)
    if confidence is not None:
        confidence = confidence[window].masked_fill(invalid, torch.nan)
    shift = torch.zeros_like(K)
    shift[0, 2], shift[1, 2] = left, top
    return DenseView(plan.view.camera, depth, confidence, colours[(slice(None), *window)], K - shift)


def resize_depth(view: DenseView, plan: ViewPlan, resolution: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth (H, W) float32 at the published size, and the intrinsics (3, 3) that belong to it.

    ``resolution``: ``network`` or ``input``, as publish.depth_resolution.
    """
    return depth_to_input_size(view.depth, plan, view.K) if resolution == "input" else (view.depth, view.K)


def encode_depth(depth: torch.Tensor, encoding: str) -> torch.Tensor:
    """Depth image (H, W) in ``encoding``.

    32FC1: float32 with NaN and +Inf as they are. 16UC1: uint16 millimetres, 0 for everything that has none
    (REP 118).
    """
    if encoding == "16UC1":
        millimetres = torch.nan_to_num(depth * _MILLIMETRES, nan=0.0, posinf=0.0).round()
        millimetres = torch.where(millimetres > _LARGEST_16UC1, 0.0, millimetres)
        depth = millimetres.to(torch.int32).to(torch.uint16)
    return depth.contiguous()


def encode_sky(depth: torch.Tensor) -> torch.Tensor:
    """Mask (H, W) uint8 of the sky in a depth image in float32: 255 where there is sky."""
    return depth.isposinf().to(torch.uint8) * 255


Cloud = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def select_points(view: DenseView, config: PointsConfig) -> Cloud:
    """Points (h, w, 3) in the camera's optical frame, colours (3, h, w) and which of them count (h, w)."""
    xyz = unproject(view.depth, view.K)
    valid = torch.isfinite(view.depth)
    if view.confidence is not None:
        valid = confidence_mask(view.confidence, config.min_confidence_percentile, valid)
    if config.max_range_m > 0:
        valid = valid & (xyz.norm(dim=-1) <= config.max_range_m)
    step = config.stride
    return xyz[::step, ::step], view.colours[:, ::step, ::step], valid[::step, ::step]


def pack_selected(cloud: Cloud) -> torch.Tensor:
    """Organised cloud (h, w, 16) uint8 of selected points; NaN where a point does not count."""
    xyz, colours, valid = cloud
    return pack_points(xyz, colours, valid)


def merge_points(clouds: list[Cloud], T_frame_cam: list[torch.Tensor], voxel: float) -> torch.Tensor:
    """One cloud (1, n, 16) uint8 of several cameras' points, in the frame of ``T_frame_cam`` (4, 4) each."""
    xyz = torch.cat([transform_points(T, s[0]).flatten(0, 1) for T, s in zip(T_frame_cam, clouds, strict=True)])
    colours = torch.cat([s[1].flatten(1) for s in clouds], dim=1)
    valid = torch.cat([s[2].flatten() for s in clouds])
    xyz, colours = xyz[valid], colours[:, valid]
    if voxel > 0:
        xyz, colours = voxel_filter(xyz, colours, voxel)
    everywhere = torch.ones((1, xyz.shape[0]), dtype=torch.bool, device=xyz.device)
    return pack_points(xyz[None], colours[:, None], everywhere)


def download(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Copy device tensors to the host, all behind one wait; CPU tensors are handed over as they are."""
    host = {}
    waiting = False
    for name, tensor in tensors.items():
        if tensor.is_cuda:
            pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            host[name] = pinned.copy_(tensor, non_blocking=True)
            waiting = True
        else:
            host[name] = tensor
    if waiting:
        torch.cuda.current_stream().synchronize()
    return {name: tensor.numpy() for name, tensor in host.items()}
