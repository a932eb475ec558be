"""Attention across views taught to find the same place: the first layer that relates views learns from true matches.

Poses follow from where patches reappear, but the objective alone says so only through many layers, and a small network
takes millions of scenes to discover it. Depth and cameras of a training scene tell for every patch where it is in every
other view; attention has to go there. It costs no parameters: what learns are the layer's own queries and keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from da3_ros.model.variants import PATCH
from da3_ros.training.losses import masked_mean

_SEEN = 0.05                # a place is seen in a view if depth there agrees within this share
_NEAREST = 1e-3             # metres in front of a camera
_TO_REFERENCE, _TO_EACH = 0, -1     # heads


def relative_poses(T_cam_world: Tensor) -> Tensor:
    """[b, i, j] of (B, N, N, 3, 4) takes points from camera i to camera j; of T_cam_world (B, N, 4, 4)."""
    T = T_cam_world.double()
    R, t = T[..., :3, :3], T[..., :3, 3:]
    turn = R[:, None] @ R[:, :, None].mT
    return torch.cat([turn, t[:, None] - turn @ t[:, :, None]], dim=-1).float()


def match_loss(
    q: Tensor, k: Tensor, depth: Tensor, valid: Tensor, K: Tensor, T_to_from: Tensor, reference: Tensor
) -> Tensor:
    """How far the attention of two heads is from the true matches: Kullback-Leibler divergence, 0 where perfect.

    ``q``, ``k`` (B, N, 1 + P, heads, d) are those of a layer across views. The first head shall find each patch in the
    view ``reference`` (B,) int64, among all tokens of all views; the last one in every other view, among its patches.
    The match is shared out to the four patches around it as by bilinear interpolation, so that what attention fetches
    moves with the match by less than a patch. Patches that the other view does not see teach nothing. ``depth``,
    ``valid`` (B, N, H, W), ``K`` (B, N, 3, 3) as in SceneBatch, ``T_to_from`` as of relative_poses.
    """
    place, known = matches(depth, valid, K, T_to_from)
    h, w = (size // PATCH for size in depth.shape[-2:])
    column, row = place.unbind(-1)                                          # (B, N, N, P) each
    column, row = column.clamp(0, w - 1)[..., None], row.clamp(0, h - 1)[..., None]
    # Bilinear weights of all patches: a product of two hats.
    of_columns = (1 - (column - torch.arange(w, device=q.device)).abs()).clamp(min=0)      # (B, N, N, P, w)
    of_rows = (1 - (row - torch.arange(h, device=q.device)).abs()).clamp(min=0)
    share = (of_rows[..., :, None] * of_columns[..., None, :]).flatten(-2)  # (B, N, N, P, P)
    certain = torch.xlogy(of_columns, of_columns).sum(-1) + torch.xlogy(of_rows, of_rows).sum(-1)

    to_each = _logits(q, k, _TO_EACH)[..., 1:]
    each = to_each.logsumexp(-1) - (share * to_each).sum(-1) + certain
    to_all = _logits(q, k, _TO_REFERENCE)
    all_ = to_all.logsumexp(-1).logsumexp(2, keepdim=True) - (share * to_all[..., 1:]).sum(-1) + certain
    is_reference = reference[:, None, None, None] == torch.arange(q.shape[1], device=q.device)[:, None]
    return masked_mean(each, known) + masked_mean(all_, known & is_reference)


def matches(depth: Tensor, valid: Tensor, K: Tensor, T_to_from: Tensor) -> tuple[Tensor, Tensor]:
    """[b, i, j, p] of (B, N, N, P, 2): column and row, counted in patches from the first one's centre, at which view j
    shows the centre of patch p of view i; and whether it does (B, N, N, P). A view has no matches in itself."""
    height, width = depth.shape[-2:]
    centre = PATCH // 2
    z, sure = (image[..., centre::PATCH, centre::PATCH].flatten(-2) for image in (depth, valid))    # (B, N, P)
    z = torch.where(sure, z, 1.0)           # whatever is there may be no number
    v, u = (torch.arange(centre, size, PATCH, device=depth.device).float() for size in (height, width))
    v, u = v[:, None].expand(-1, len(u)).flatten(), u.repeat(len(v))
    f, c = torch.stack([K[..., 0, 0], K[..., 1, 1]], -1), K[..., :2, 2]     # (B, N, 2)
    rays = (torch.stack([u, v], -1) - c[:, :, None]) / f[:, :, None]        # (B, N, P, 2)
    points = torch.cat([rays, torch.ones_like(rays[..., :1])], -1) * z[..., None]
    R, t = T_to_from[..., :3], T_to_from[..., None, :, 3]
    points = (R[..., None, :, :] * points[:, :, None, :, None, :]).sum(-1) + t          # (B, N, N, P, 3) in camera j
    far = points[..., 2]
    at = points[..., :2] / far[..., None].clamp(min=_NEAREST) * f[:, None, :, None] + c[:, None, :, None]
    x, y = at.unbind(-1)
    inside = (far > _NEAREST) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    pixel = y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()
    there = depth.flatten(-2)[:, None].expand(-1, pixel.shape[1], -1, -1).gather(-1, pixel)
    there_valid = valid.flatten(-2)[:, None].expand(-1, pixel.shape[1], -1, -1).gather(-1, pixel)
    seen = inside & there_valid & ((there - far).abs() < _SEEN * far)
    other = ~torch.eye(depth.shape[1], dtype=torch.bool, device=depth.device)[..., None]
    return at / PATCH - 0.5, seen & sure[:, :, None] & other


def _logits(q: Tensor, k: Tensor, head: int) -> Tensor:
    """(B, N, N, P, 1 + P): of each patch of view i to each token of view j."""
    patches, tokens = q[:, :, 1:, head], k[:, :, :, head]
    (views, p), t = patches.shape[1:3], tokens.shape[2]
    product = patches.flatten(1, 2) @ tokens.flatten(1, 2).mT
    logits = product.float() * q.shape[-1] ** -0.5
    return logits.unflatten(-1, (views, t)).unflatten(1, (views, p)).transpose(2, 3)
