"""From a prediction to the bytes that are published: everything is assembled on the device, without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from da3_ros.config import PointsConfig
from da3_ros.geometry.camera import unproject
from da3_ros.geometry.clouds import compact, confidence_mask, pack_points, transform_points, voxel_filter
from da3_ros.geometry.image import ViewPlan, depth_to_input_size

_MILLIMETRES = 1000.0
_LARGEST_16UC1 = 65535


@dataclass(frozen=True)
class DenseViews:
    """Dense maps of G decoded views, cropped to the cameras' content of one size, on the device."""

    depth: torch.Tensor  # (G, H, W) float32, NaN invalid, +Inf beyond range
    confidence: torch.Tensor | None  # (G, H, W) float32, NaN where depth is invalid
    colours: torch.Tensor  # (G, 3, H, W) uint8
    K: torch.Tensor  # (G, 3, 3) float32, pixels of these maps


def crop_views(
    content: tuple[int, int, int, int],
    depth: torch.Tensor,
    confidence: torch.Tensor | None,
    colours: torch.Tensor,
    sky: torch.Tensor | None,
    K: torch.Tensor,
    metres_per_unit: torch.Tensor | None,
) -> DenseViews:
    """Cut the ``content`` (top, left, height, width) out of canvas-sized maps (G, H, W) and mark what is not valid.

    ``K``: (G, 3, 3) of the canvas. Depth is multiplied by ``metres_per_unit``. Sky is +Inf, all else that is not
    finite and positive is NaN (REP 117).
    """
    top, left, height, width = content
    window = (..., slice(top, top + height), slice(left, left + width))
    depth = depth[window]
    if metres_per_unit is not None:
        depth = depth * metres_per_unit
    valid = (depth > 0) & (depth < torch.inf)
    depth = torch.where(valid, depth, torch.nan)
    if sky is not None:
        depth = torch.where(sky[window], torch.inf, depth)
        valid = valid | sky[window]
    if confidence is not None:
        confidence = torch.where(valid, confidence[window], torch.nan)
    if top or left:
        K = K.clone()
        K[:, 0, 2] -= left
        K[:, 1, 2] -= top
    return DenseViews(depth, confidence, colours[window], K)


def resize_depth(
    views: DenseViews, plans: Sequence[ViewPlan], resolution: str
) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
    """Depth (H, W) float32 of each view at the published size, and the intrinsics (3, 3) that belong to it.

    ``plans``: of the G views. ``resolution``: ``network`` or ``input``, as publish.depth_resolution.
    """
    if resolution == "network":
        return views.depth.unbind(), views.K.unbind()
    full = [depth_to_input_size(*view) for view in zip(views.depth, plans, views.K, strict=True)]
    return [depth for depth, _ in full], [K for _, K in full]


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


def select_points(views: DenseViews, config: PointsConfig) -> Cloud:
    """Points (G, h, w, 3) in the optical frames, colours (G, 3, h, w) and which of them count (G, h, w)."""
    xyz = unproject(views.depth, views.K)
    valid = torch.isfinite(views.depth)
    if views.confidence is not None:
        valid = confidence_mask(views.confidence, config.min_confidence_percentile, valid)
    if config.max_range_m > 0:
        valid = valid & (xyz.norm(dim=-1) <= config.max_range_m)
    step = config.stride
    return xyz[:, ::step, ::step], views.colours[..., ::step, ::step], valid[:, ::step, ::step]


def merge_points(
    clouds: Sequence[Cloud], T_frame_cam: Sequence[torch.Tensor], voxel: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """One cloud (1, n, 16) uint8 of the points of all views, and how many of its first ones count, () int64.

    ``T_frame_cam``: (4, 4) of each view. n is the number of pixels; the points after those that count have no meaning.
    """
    views = [view for cloud in clouds for view in zip(*cloud, strict=True)]
    xyz = torch.cat([transform_points(T, view[0]).flatten(0, 1) for T, view in zip(T_frame_cam, views, strict=True)])
    colours = torch.cat([view[1].flatten(1) for view in views], dim=1)
    valid = torch.cat([view[2].flatten() for view in views])
    if voxel > 0:
        xyz, colours, count = voxel_filter(xyz, colours, valid, voxel)
        return pack_points(xyz[None], colours[:, None], torch.ones_like(valid)[None]), count
    points, count = compact(pack_points(xyz[None], colours[:, None], valid[None])[0], valid)
    return points[None], count
