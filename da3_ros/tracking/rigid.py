"""Robust means of rotations and rigid transforms of many views, without waiting for the device.

Everything is in float64 where the tensors are; weights of outliers fall by iteratively reweighted least squares
(IRLS) with Cauchy's weight 1 / (1 + (r / c)^2), c being 2.385 times the robust standard deviation of the residuals
(95 % efficiency for Gaussian noise; Huber and Ronchetti, Robust Statistics, 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ITERATIONS = 5
_CAUCHY = 2.385
_MAD_TO_STDDEV = 1.4826
# Residuals below these are rounding of float32 poses, not disagreement.
_SMALLEST_ANGLE = 1e-5  # radians
_SMALLEST_LENGTH = 1e-5  # relative to the largest distance from the mean centre
_TINY = 1e-12


@dataclass(frozen=True)
class RigidFit:
    """The rigid transform that takes frame a to frame b, and how well the views agree on it."""

    T_b_a: Tensor  # (4, 4); without meaning where all weights are 0
    weights: Tensor  # (V,) 0..1, what each view counted for in the end
    angle: Tensor  # (V,) radians between each view's rotation and the fit
    distance: Tensor  # (V,) between each view's centre and the fit, in b's unit
    rotation_variance: Tensor  # () rad^2 of the fit about each axis
    translation_variance: Tensor  # () of the fit along each axis, at the mean centre of the views


def fit_rigid(T_a_view: Tensor, T_b_view: Tensor, weights: Tensor | None = None) -> RigidFit:
    """The rigid transform between two frames in which the same V >= 1 views are known.

    ``T_a_view`` and ``T_b_view`` (V, 4, 4) view to frame, lengths in one unit; ``weights`` (V,), 0 for views that are
    not known in both. The rotation comes
    from the views' rotations (the centres of a robot's window often lie on a line), the translation from the
    centres under that rotation.
    """
    a, b = T_a_view.double(), T_b_view.double()
    base = torch.ones_like(a[:, 0, 0]) if weights is None else weights.double()
    quaternion = quaternion_of(b[:, :3, :3] @ a[:, :3, :3].mT)  # each view's rotation from a to b
    rotation, weight_r, angle, variance_r = _robust_rotation(quaternion, base)

    offset = b[:, :3, 3] - a[:, :3, 3] @ rotation.mT
    centre = (base[:, None] * a[:, :3, 3]).sum(0) / base.sum().clamp(min=_TINY)
    spread = ((a[:, :3, 3] - centre).norm(dim=-1) * (base > 0)).amax()
    smallest = (spread * _SMALLEST_LENGTH).clamp(min=_TINY)
    translation, weight_t, distance, variance_t = _robust_mean(offset, base, smallest)
    T = torch.eye(4, dtype=torch.float64, device=a.device)
    T[:3, :3], T[:3, 3] = rotation, translation
    return RigidFit(T, weight_r * weight_t, angle, distance, variance_r, variance_t)


def mean_pose(T: Tensor, weights: Tensor | None = None) -> RigidFit:
    """Robust mean of V >= 1 estimates T (V, 4, 4) of one pose: as ``T_b_a``, with what each differs from it."""
    nowhere = torch.eye(4, dtype=torch.float64, device=T.device).expand(T.shape[0], 4, 4)
    return fit_rigid(nowhere, T, weights)


def blend(T_first: Tensor, T_second: Tensor, share: Tensor) -> Tensor:
    """Poses (V, 4, 4) that lie ``share`` (V,) 0..1 of the way from the first to the second, which are close by."""
    first, second = quaternion_of(T_first[:, :3, :3]), quaternion_of(T_second[:, :3, :3])
    second = second * torch.where((first * second).sum(-1) < 0, -1.0, 1.0)[:, None]
    quaternion = torch.lerp(first, second, share[:, None])
    T = torch.lerp(T_first, T_second, share[:, None, None])
    T[:, :3, :3] = rotation_of(quaternion / quaternion.norm(dim=-1, keepdim=True))
    return T


def misfit(T: Tensor, T_mean: Tensor) -> Tensor:
    """By what poses (V, 4, 4) differ from T_mean (4, 4), in the axes of its body: rotation vectors and displacements.

    (V, 6): radians, then lengths.
    """
    quaternion = quaternion_of(T_mean[:3, :3].mT @ T[:, :3, :3])
    cosine, sine = quaternion[:, :1], quaternion[:, 1:]
    length = sine.norm(dim=-1, keepdim=True)
    turn = 2 * torch.atan2(length, cosine.abs()) * torch.where(cosine < 0, -sine, sine) / length.clamp(min=_TINY)
    return torch.cat([turn, (T[:, :3, 3] - T_mean[:3, 3]) @ T_mean[:3, :3]], dim=-1)


def quaternion_of(R: Tensor) -> Tensor:
    """Unit quaternions (..., 4) as w, x, y, z of rotations (..., 3, 3); the sign is arbitrary.

    Each row of 4 q q^T is proportional to q: the one with the largest diagonal entry is the best conditioned.
    """
    xx, yy, zz = R.diagonal(dim1=-2, dim2=-1).unbind(-1)
    wx, wy, wz = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    xy, xz, yz = R[..., 1, 0] + R[..., 0, 1], R[..., 2, 0] + R[..., 0, 2], R[..., 2, 1] + R[..., 1, 2]
    outer = torch.stack(
        [
            1 + xx + yy + zz, wx, wy, wz,
            wx, 1 + xx - yy - zz, xy, xz,
            wy, xy, 1 - xx + yy - zz, yz,
            wz, xz, yz, 1 - xx - yy + zz,
        ],
        dim=-1,
    ).unflatten(-1, (4, 4))  # fmt: skip
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    row = outer.take_along_dim(best, dim=-2)[..., 0, :]
    return row / row.norm(dim=-1, keepdim=True)


def rotation_of(quaternion: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of unit quaternions (..., 4) as w, x, y, z."""
    w, x, y, z = quaternion.unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
            2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
            2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).unflatten(-1, (3, 3))  # fmt: skip


def _robust_rotation(quaternion: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rotation (3, 3), weights (V,), angles (V,) and variance () of the mean of quaternions (V, 4)."""
    # The view that agrees best with all others, by the sum of |cos|, is the start: outliers cannot pull it.
    agreement = ((quaternion @ quaternion.mT).abs() * base).sum(-1)
    centre = _row(quaternion, torch.where(base > 0, agreement, -1.0).argmax())
    weight = base
    smallest = torch.full_like(base[0], _SMALLEST_ANGLE)
    for _ in range(_ITERATIONS):
        weight = base * _cauchy(_angle_to(quaternion, centre), base, smallest)
        aligned = quaternion * torch.where((quaternion @ centre) < 0, -1.0, 1.0)[:, None]
        centre = (weight[:, None] * aligned).sum(0)
        centre = centre / centre.norm()
    angle = _angle_to(quaternion, centre)
    return rotation_of(centre), weight / base.clamp(min=_TINY), angle, _variance_of_mean(angle, weight)


def _angle_to(quaternion: Tensor, centre: Tensor) -> Tensor:
    """Angles (V,) between rotations; from the chord, which keeps its precision near zero."""
    chord = torch.minimum((quaternion - centre).norm(dim=-1), (quaternion + centre).norm(dim=-1))
    return 4 * torch.asin((chord / 2).clamp(max=1.0))


def _robust_mean(points: Tensor, base: Tensor, smallest: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean (3,), weights (V,), distances (V,) and variance () of the mean of points (V, 3)."""
    apart = torch.cdist(points[None], points[None])[0]
    centre = _row(points, torch.where(base > 0, (apart * base).sum(-1), torch.inf).argmin())  # the medoid
    weight = base
    for _ in range(_ITERATIONS):
        weight = base * _cauchy((points - centre).norm(dim=-1), base, smallest)
        centre = (weight[:, None] * points).sum(0) / weight.sum().clamp(min=_TINY)
    distance = (points - centre).norm(dim=-1)
    return centre, weight / base.clamp(min=_TINY), distance, _variance_of_mean(distance, weight)


def _cauchy(residual: Tensor, base: Tensor, smallest: Tensor) -> Tensor:
    """Weights (V,) of residuals (V,) about their robust deviation, which is at least ``smallest`` ()."""
    stddev = torch.maximum(_MAD_TO_STDDEV * weighted_median(residual, base), smallest)
    return 1 / (1 + (residual / (_CAUCHY * stddev)).square())


def _variance_of_mean(residual: Tensor, weight: Tensor) -> Tensor:
    """Variance () for each of three axes of a weighted mean whose members are ``residual`` (V,) off."""
    total = weight.sum().clamp(min=_TINY)
    effective = total.square() / weight.square().sum().clamp(min=_TINY)  # Kish's effective sample size
    each = (weight * residual.square()).sum() / total / 3
    return each / (effective - 1).clamp(min=1.0)


def weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Lower weighted median () of values (V,); 0 where all weights are 0."""
    order = values.argsort()
    cumulative = weights[order].cumsum(0)
    index = torch.searchsorted(cumulative, cumulative[-1:] / 2).clamp(max=values.shape[0] - 1)
    return values[order].gather(0, index)[0]


def _row(values: Tensor, index: Tensor) -> Tensor:
    """Row ``index`` () of values (V, ...); indexing with it would wait for the device."""
    return values.index_select(0, index[None])[0]
