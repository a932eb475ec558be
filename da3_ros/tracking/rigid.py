"""Robust means of rotations and rigid transforms of many views, without waiting for the device.

Everything is in float64 where the tensors are, in as few operations as possible, since on CUDA each of them takes
microseconds however little it does. Weights of outliers fall by iteratively reweighted least squares
(IRLS) with Cauchy's weight 1 / (1 + (r / c)^2), c being 2.385 times the robust standard deviation of the residuals
(95 % efficiency for Gaussian noise; Huber and Ronchetti, Robust Statistics, 2009).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from da3_ros.tracking.numbers import numbers

_ITERATIONS = 5
_CAUCHY = 2.385
_MAD_TO_STDDEV = 1.4826
# Residuals below these are rounding of float32 poses, not disagreement.
_SMALLEST_ANGLE = 1e-5  # radians
_SMALLEST_LENGTH = 1e-5  # relative to the largest distance from the mean centre
_TINY = 1e-12
# Of the weight, by which the deviation of residuals goes: of two views the further one, or it would be the first view's
# own deviation from itself, and the second would count for nothing.
_MORE_THAN_HALF = 0.5 + 1e-6  # of a count in float32
_ALL_PAIRS = 128  # values, up to which all are compared with all to find their median


@dataclass(frozen=True)
class RigidFit:
    """The rigid transform that takes frame a to frame b, and how well the views agree on it."""

    T_b_a: Tensor  # (..., 4, 4); without meaning where all weights are 0
    weights: Tensor  # (..., V) what each view counted for in the end, of what it was given
    angle: Tensor  # (..., V) radians between each view's rotation and the fit
    distance: Tensor  # (..., V) between each view's centre and the fit, in b's unit


def fit_rigid(T_a_view: Tensor, T_b_view: Tensor, weights: Tensor | None = None) -> RigidFit:
    """The rigid transform between two frames in which the same V >= 1 views are known.

    ``T_a_view`` and ``T_b_view`` (..., V, 4, 4) view to frame, lengths in one unit; ``weights`` (..., V), 0 for views
    that are not known in both. By how much views disagree is for all others alike to say: one that weighs more than
    they together would agree with itself. Leading dimensions are fits of their own, which cost the device little more
    than one.
    The rotation comes from the views' rotations (the centres of a robot's window often lie on a line), the
    translation from the centres under that rotation.
    """
    a, b = T_a_view.double(), T_b_view.double()
    base = torch.ones_like(b[..., 0, 0]) if weights is None else weights.double()
    return fit_centres(fit_rotation(b[..., :3, :3] @ a[..., :3, :3].mT, base), a, b)


@dataclass(frozen=True)
class RotationFit:
    """The rotation of a rigid fit, which needs no lengths."""

    R_b_a: Tensor  # (..., 3, 3)
    weights: Tensor  # (..., V)
    angle: Tensor  # (..., V)
    base: Tensor  # (..., V) what the views were given to count for, as are the next two
    there: Tensor  # (..., V) bool
    half: Tensor  # (..., 1)


def fit_rotation(R_b_a: Tensor, base: Tensor) -> RotationFit:
    """The rotation of ``fit_rigid`` by each view's own one, float64 (..., V, 3, 3), and weights (..., V)."""
    there = base > 0
    half = there.sum(-1, keepdim=True) * _MORE_THAN_HALF
    return RotationFit(*_robust_rotation(quaternion_of(R_b_a), base, there, half), base, there, half)


def fit_centres(fit: RotationFit, a: Tensor, b: Tensor) -> RigidFit:
    """What is left of ``fit_rigid`` of float64 ``a`` and ``b`` (..., V, 4, 4) when their rotation is known."""
    base, there = fit.base, fit.there
    total = base.sum(-1, keepdim=True)
    start, offset = a[..., :3, 3], b[..., :3, 3] - a[..., :3, 3] @ fit.R_b_a.mT
    centre = (base[..., None] * start).sum(-2) / total.clamp(min=_TINY)
    spread = ((start - centre[..., None, :]).norm(dim=-1) * there).amax(-1, keepdim=True)
    smallest = (spread * (_CAUCHY * _SMALLEST_LENGTH)).clamp(min=_TINY)
    translation, weights, distance = _robust_mean(offset, base, there, fit.half, smallest)
    T = torch.cat([fit.R_b_a, translation[..., None]], dim=-1)
    T = torch.cat([T, numbers(T.device).eye[3:].expand(*T.shape[:-2], 1, 4)], dim=-2)
    return RigidFit(T, fit.weights * weights / base.clamp(min=_TINY), fit.angle, distance)


def blend(T_first: Tensor, T_second: Tensor, share: Tensor) -> Tensor:
    """Poses (V, 4, 4) that lie ``share`` (V,) 0..1 of the way from the first to the second, which are close by."""
    both = torch.stack([T_first, T_second])
    first, second = quaternion_of(both[..., :3, :3])
    second = second * _sign((first * second).sum(-1, keepdim=True))
    T = torch.lerp(T_first, T_second, share[:, None, None])
    T[:, :3, :3] = rotation_of(F.normalize(torch.lerp(first, second, share[:, None]), dim=-1))
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
    """Unit quaternions (..., 4) as w, x, y, z of rotations (..., 3, 3), float64; the sign is arbitrary.

    Each row of 4 q q^T, which is linear in R, is proportional to q: the one with the largest diagonal entry is the
    best conditioned.
    """
    linear, constant = _outer_of_rotation(R.device)
    outer = (R.flatten(-2) @ linear + constant).unflatten(-1, (4, 4))
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    return F.normalize(_pick(outer, best)[..., 0, :], dim=-1)


def rotation_of(quaternion: Tensor) -> Tensor:
    """Rotations (..., 3, 3) of unit quaternions (..., 4) as w, x, y, z, float64."""
    linear, constant = _rotation_of_outer(quaternion.device)
    outer = quaternion[..., :, None] * quaternion[..., None, :]
    return (outer.flatten(-2) @ linear + constant).unflatten(-1, (3, 3))


@functools.cache
def _outer_of_rotation(device: torch.device) -> tuple[Tensor, Tensor]:
    """(9, 16) and (16,): 4 q q^T of a rotation, both row by row."""
    linear = torch.zeros(3, 3, 4, 4, dtype=torch.float64)
    for axis, (i, j, k) in enumerate(((0, 1, 2), (1, 2, 0), (2, 0, 1))):
        for row, sign in enumerate((1, *(1 if axis == other else -1 for other in range(3)))):
            linear[axis, axis, row, row] = sign  # 4 w^2 = 1 + xx + yy + zz, 4 x^2 = 1 + xx - yy - zz, ...
        for row, column in ((0, i + 1), (i + 1, 0)):
            linear[k, j, row, column], linear[j, k, row, column] = 1, -1  # 4 w x = R_zy - R_yz, ...
        for row, column in ((j + 1, k + 1), (k + 1, j + 1)):
            linear[k, j, row, column] = linear[j, k, row, column] = 1  # 4 y z = R_zy + R_yz, ...
    return linear.view(9, 16).to(device), torch.eye(4, dtype=torch.float64).flatten().to(device)


@functools.cache
def _rotation_of_outer(device: torch.device) -> tuple[Tensor, Tensor]:
    """(16, 9) and (9,): the rotation of q q^T, both row by row."""
    linear = torch.zeros(4, 4, 3, 3, dtype=torch.float64)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        linear[j + 1, j + 1, i, i] = linear[k + 1, k + 1, i, i] = -2  # R_xx = 1 - 2 (y^2 + z^2), ...
        linear[j + 1, k + 1, k, j] = linear[j + 1, k + 1, j, k] = 2  # R_zy = 2 (y z + w x), R_yz = 2 (y z - w x)
        linear[0, i + 1, k, j], linear[0, i + 1, j, k] = 2, -2
    return linear.view(16, 9).to(device), torch.eye(3, dtype=torch.float64).flatten().to(device)


def _robust_rotation(
    quaternion: Tensor, base: Tensor, there: Tensor, half: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation (..., 3, 3), weights (..., V) and angles (..., V) of the mean of quaternions (..., V, 4)."""
    # The view that agrees best with all others, by the sum of |cos|, is the start: outliers cannot pull it.
    cosines = quaternion @ quaternion.mT
    agreement = (cosines.abs() * base[..., None, :]).sum(-1) * there
    best = agreement.argmax(-1)[..., None, None]
    centre = _pick(quaternion, best)
    quaternion = quaternion * _sign(_pick(cosines, best)).mT
    smallest = torch.full_like(half, _CAUCHY * _SMALLEST_ANGLE / 2)
    weight = base
    for _ in range(_ITERATIONS):
        # The chord between unit quaternions is half of the angle where it matters, and precise near zero.
        weight = _cauchy((quaternion - centre).norm(dim=-1), base, there, half, smallest)
        centre = (weight[..., None] * quaternion).sum(-2, keepdim=True)
        centre = centre / centre.norm(dim=-1, keepdim=True)
    chord = torch.minimum((quaternion - centre).norm(dim=-1), (quaternion + centre).norm(dim=-1))
    return rotation_of(centre[..., 0, :]), weight, 4 * torch.asin((chord / 2).clamp(max=1.0))


def _robust_mean(
    points: Tensor, base: Tensor, there: Tensor, half: Tensor, smallest: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (..., 3), weights (..., V) and distances (..., V) of points (..., V, 3)."""
    apart = (points[..., :, None, :] - points[..., None, :, :]).norm(dim=-1)
    medoid = torch.where(there, (apart * base[..., None, :]).sum(-1), numbers(base.device).infinity).argmin(-1)
    centre = _pick(points, medoid[..., None, None])
    weight = base
    for _ in range(_ITERATIONS):
        weight = _cauchy((points - centre).norm(dim=-1), base, there, half, smallest)
        total = weight.sum(-1, keepdim=True).clamp(min=_TINY)
        centre = (weight[..., None] * points).sum(-2, keepdim=True) / total[..., None]
    return centre[..., 0, :], weight, (points - centre).norm(dim=-1)


def _pick(rows: Tensor, index: Tensor) -> Tensor:
    """(..., 1, C) of rows (..., V, C), by an index (..., 1, 1) from 0; take_along_dim also counts from the end."""
    return rows.gather(-2, index.expand(*index.shape[:-1], rows.shape[-1]))


def _cauchy(residual: Tensor, base: Tensor, there: Tensor, half: Tensor, smallest: Tensor) -> Tensor:
    """Weights of residuals (..., V), of which Cauchy's width is ``smallest`` (..., 1) at least."""
    ratio = residual / torch.maximum(_CAUCHY * _MAD_TO_STDDEV * _median_of_pairs(residual, there, half), smallest)
    return base / torch.addcmul(numbers(base.device).one, ratio, ratio)


def weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Lower weighted median (...) of values (..., V); one of them without meaning where all weights are 0."""
    if values.shape[-1] <= _ALL_PAIRS:
        return _median_of_pairs(values, weights, weights.sum(-1, keepdim=True) / 2)[..., 0]
    ordered, order = values.sort(dim=-1)
    # In float64 sums of float32 weights are exact, or nearly: on CUDA their order differs from run to run.
    upto = weights.expand_as(values).gather(-1, order).cumsum(-1, dtype=torch.float64)
    # Not in the last one: the index is then one of a value, whatever the weights are.
    index = torch.searchsorted(upto[..., :-1].contiguous(), upto[..., -1:] / 2)
    return ordered.gather(-1, index)[..., 0]


def middle_median(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted median (...) of values (..., V), halfway where it lies between two of them.

    Of four that are noisy the lower one of the two is, in the mean, 0.3 standard deviations too low.
    """
    lower, upper = weighted_median(torch.stack([values, -values]), weights)
    return (lower - upper) / 2


def _sign(values: Tensor) -> Tensor:
    """1 or -1, never 0."""
    return torch.copysign(numbers(values.device).one, values)


def _median_of_pairs(values: Tensor, weights: Tensor, half: Tensor) -> Tensor:
    """The least value (..., 1) up to which there is ``half`` (..., 1) of the weight, by comparing each with each: to
    sort few values takes the device longer."""
    upto = ((values[..., None, :] <= values[..., :, None]) * weights[..., None, :]).sum(-1)
    return torch.where(upto >= half, values, numbers(values.device).infinity).amin(-1, keepdim=True)
