"""Alignment of two sets of poses of the same cameras: the similarity that takes one world to the other.

World a is that of known poses (a rig, odometry), world b that of predicted ones; poses map from world to camera, as
everywhere near the network. Everything is batched over leading dimensions, runs in fp64 where the tensors are, and
never waits for the device.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_SQUARINGS = 24  # 2**24 steps of power iteration
_SMALLEST_SPREAD = 1e-5  # of the centres, relative to their distance from the origin: below it fp32 is noise
_LARGEST_STDDEV = 0.5  # relative; a scale that is less certain is no scale
_RANK_TOLERANCE = 1e-6  # second singular value relative to the first


@dataclass(frozen=True)
class Similarity:
    """x_b = scale * rotation @ x_a + translation, one for each batch entry (...)."""

    scale: Tensor  # (...)
    rotation: Tensor  # (..., 3, 3)
    translation: Tensor  # (..., 3)

    def points(self, points: Tensor) -> Tensor:
        """Points (..., N, 3) of world a in world b."""
        return self.scale[..., None, None] * points @ self.rotation.mT + self.translation[..., None, :]

    def cameras(self, T_cam_a: Tensor) -> Tensor:
        """The cameras (..., N, 3 or 4, 4) that stand in world a, as rigid poses T_cam_b (..., N, 4, 4) of world b."""
        rotation = T_cam_a[..., :3, :3] @ self.rotation.mT[..., None, :, :]
        centre = self.points(camera_centres(T_cam_a))
        pose = torch.zeros((*rotation.shape[:-2], 4, 4), dtype=rotation.dtype, device=rotation.device)
        pose[..., :3, :3] = rotation
        pose[..., :3, 3] = -(rotation @ centre[..., None])[..., 0]
        pose[..., 3, 3] = 1.0
        return pose


@dataclass(frozen=True)
class Alignment:
    """A similarity, and which parts of it the poses determine. Nothing here is ever NaN.

    Where ``scale_determined`` is false, the scale is the prior one, or 1 without a prior. Standard deviations come
    from how far the views disagree and are infinite where there is nothing to compare.
    """

    similarity: Similarity
    scale_determined: Tensor  # (...) bool
    rotation_determined: Tensor  # (...) bool; false only for centres on a line whose rotations were not used
    scale_stddev: Tensor  # (...) relative to the scale
    rotation_stddev: Tensor  # (...) radians about each axis
    residual: Tensor  # (..., N) distance of each aligned centre from the one in world b, in b's unit


def align_cameras(
    T_cam_a: Tensor,
    T_cam_b: Tensor,
    weights: Tensor | None = None,
    *,
    known_scale: Tensor | float | None = None,
    prior_scale: Tensor | float | None = None,
) -> Alignment:
    """The similarity from world a to world b by rotations and centres, for any number of views from one on.

    ``T_cam_a`` and ``T_cam_b`` (..., N, 3 or 4, 4) world to camera, ``weights`` (..., N) of the views (0: not known
    in a). The rotation is the chordal mean of what each view's two rotations say, so that neither collinear nor
    coinciding centres leave it open; the scale is the least-squares one of the centred centres given that rotation.

    The scale is not determined where the centres of a coincide, where the baselines of b point against those of a,
    or where they agree so badly that its relative deviation exceeds one half; then it is ``prior_scale`` (...), or
    1. ``known_scale`` (...), in units of b per unit of a, is taken as it is.
    """
    T_cam_a, T_cam_b = T_cam_a.double(), T_cam_b.double()
    weights = _view_weights(weights, T_cam_a[..., 0, 0])
    views = _views(weights)

    # A view's rotation from a to b: camera to b after a to camera.
    each = T_cam_b[..., :3, :3].mT @ T_cam_a[..., :3, :3]  # (..., N, 3, 3)
    rotation = closest_rotation((weights[..., None, None] * each).sum(-3))
    chord = (each - rotation[..., None, :, :]).flatten(-2).norm(dim=-1)
    angle = 2 * torch.asin((chord / 8**0.5).clamp(max=1.0))
    variance = (weights * angle.square()).sum(-1) / (3 * (views - 1)).clamp(min=1) / views
    rotation_stddev = torch.where(views > 1, variance.sqrt(), torch.inf)

    a, b = camera_centres(T_cam_a), camera_centres(T_cam_b)
    scale, stddev, determined = _fit_scale(rotation, a, b, weights, freedom=3 * (views - 1) - 1)
    determined = determined & (stddev <= _LARGEST_STDDEV)
    scale = torch.where(determined, scale, _like(1.0 if prior_scale is None else prior_scale, scale))
    stddev = torch.where(determined, stddev, torch.inf)
    if known_scale is not None:
        scale, stddev, determined = _like(known_scale, scale), torch.zeros_like(stddev), torch.ones_like(determined)
    similarity = _onto_means(scale, rotation, a, b, weights)
    residual = (similarity.points(a) - b).norm(dim=-1)
    return Alignment(similarity, determined, torch.ones_like(determined), stddev, rotation_stddev, residual)


def align_centres(centres_a: Tensor, centres_b: Tensor, weights: Tensor | None = None) -> Alignment:
    """The similarity between points (..., N, 3) by least squares (Umeyama 1991); ``weights`` (..., N).

    Three points that are not on a line determine it; of fewer, ``rotation_determined`` is false.
    """
    a, b = centres_a.double(), centres_b.double()
    weights = _view_weights(weights, a[..., 0])
    covariance = (weights[..., None] * (b - _mean(b, weights))).mT @ (a - _mean(a, weights))  # (..., 3, 3)
    rotation = closest_rotation(covariance)
    scale, stddev, determined = _fit_scale(rotation, a, b, weights, freedom=3 * _views(weights) - 7)
    scale = torch.where(determined, scale, 1.0)
    similarity = _onto_means(scale, rotation, a, b, weights)
    return Alignment(
        similarity,
        scale_determined=determined,
        rotation_determined=determined & _has_rank_2(covariance),
        scale_stddev=torch.where(determined, stddev, torch.inf),
        rotation_stddev=torch.full_like(scale, torch.inf),
        residual=(similarity.points(a) - b).norm(dim=-1),
    )


def align_centres_robustly(centres_a: Tensor, centres_b: Tensor, seed: int = 42, samples: int = 10) -> Alignment:
    """``align_centres`` of the inliers, found as the published code finds them (its RANSAC), with the same samples.

    Subsets of half of the views, at least 3; inliers of a subset's similarity lie within the median distance of
    the pre-aligned centres of a from the nearest centre of b; most inliers win, then the least mean distance.
    """
    # With the generator of the published code its numbers come out; nothing else of the network needs NumPy.
    import numpy as np

    views = centres_a.shape[-2]
    generator = np.random.default_rng(seed)
    size = min(views, max(3, (views + 1) // 2))
    drawn = np.stack([generator.choice(np.arange(views), size=size, replace=False) for _ in range(samples)])
    subset = torch.from_numpy(drawn).to(centres_a.device, non_blocking=True)  # (I, size)

    a, b = centres_a.double(), centres_b.double()
    everything = align_centres(a, b)
    nearest = torch.cdist(everything.similarity.points(a), b).amin(-1)  # (..., N)
    threshold = nearest.quantile(0.5, dim=-1)

    trial = align_centres(a[..., subset, :], b[..., subset, :])  # (..., I)
    distance = (trial.similarity.points(a[..., None, :, :]) - b[..., None, :, :]).norm(dim=-1)  # (..., I, N)
    inlier = distance <= threshold[..., None, None]
    count = torch.where(trial.rotation_determined, inlier.sum(-1), -1)
    mean = (distance * inlier).sum(-1) / inlier.sum(-1).clamp(min=1)
    mean = torch.where(count == count.amax(-1, keepdim=True), mean, torch.inf)
    order = torch.arange(samples, device=a.device)
    best = torch.where(mean == mean.amin(-1, keepdim=True), order, samples).amin(-1)[..., None]  # the first of equals
    count = count.gather(-1, best)[..., 0]
    chosen = inlier.gather(-2, best[..., None].expand(*best.shape, views))[..., 0, :]
    # Too few inliers to fit again: the similarity of the best subset stands, which is the fit to that subset.
    members = torch.zeros_like(chosen).scatter(-1, subset[best[..., 0]], True)
    usable = count[..., None] >= 3
    return align_centres(a, b, torch.where(usable, chosen, members | (count[..., None] < 0)).double())


def camera_centres(T_cam_world: Tensor) -> Tensor:
    """Positions (..., 3) in the world of cameras (..., 3 or 4, 4) world to camera."""
    return -(T_cam_world[..., :3, :3].mT @ T_cam_world[..., :3, 3:])[..., 0]


def closest_rotation(matrix: Tensor) -> Tensor:
    """The rotation R (..., 3, 3) with the largest trace of R^T M; without host synchronisation, unlike an SVD.

    For a sum of rotations that is their chordal mean, for a covariance the solution of Kabsch. Its quaternion is
    the largest eigenvector of Davenport's symmetric matrix (1968), found by squaring that matrix; where rotations
    about some axis do equally well, one of them is returned.
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    davenport = torch.stack(
        [
            m00 + m11 + m22,
            m21 - m12,
            m02 - m20,
            m10 - m01,
            m21 - m12,
            m00 - m11 - m22,
            m10 + m01,
            m02 + m20,
            m02 - m20,
            m10 + m01,
            m11 - m00 - m22,
            m21 + m12,
            m10 - m01,
            m02 + m20,
            m21 + m12,
            m22 - m00 - m11,
        ],
        dim=-1,
    ).unflatten(-1, (4, 4))
    norm = davenport.flatten(-2).norm(dim=-1)[..., None, None]
    identity = torch.eye(4, dtype=matrix.dtype, device=matrix.device)
    power = davenport + (norm + _tiny(matrix)) * identity  # no eigenvalue below zero, the order as before
    for _ in range(_SQUARINGS):
        power = power / power.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
        power = power @ power
    best = power.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    quaternion = power.take_along_dim(best, dim=-2)[..., 0, :]
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    return torch.stack(
        [
            1 - 2 * (y * y + z * z),
            2 * (x * y - z * w),
            2 * (x * z + y * w),
            2 * (x * y + z * w),
            1 - 2 * (x * x + z * z),
            2 * (y * z - x * w),
            2 * (x * z - y * w),
            2 * (y * z + x * w),
            1 - 2 * (x * x + y * y),
        ],
        dim=-1,
    ).unflatten(-1, (3, 3))


def _fit_scale(
    rotation: Tensor, a: Tensor, b: Tensor, weights: Tensor, freedom: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Least-squares scale (...) from a to b given the rotation, its relative deviation, and whether there is one.

    ``freedom``: degrees of freedom of what the fit leaves over. The deviation is 0 where that is none.
    """
    turned = (a - _mean(a, weights)) @ rotation.mT  # (..., N, 3)
    seen = b - _mean(b, weights)
    spread = (weights[..., None] * turned.square()).sum((-2, -1))
    floor = _tiny(spread)
    scale = (weights[..., None] * turned * seen).sum((-2, -1)) / spread.clamp(min=floor)
    misfit = (weights[..., None] * (seen - scale[..., None, None] * turned).square()).sum((-2, -1))
    stddev = (misfit / freedom.clamp(min=1) / spread.clamp(min=floor)).sqrt() / scale.clamp(min=floor)
    # Centres that differ by no more than the rounding of single precision do not differ.
    radius, farthest = (spread / _views(weights)).sqrt(), a.norm(dim=-1).amax(-1)
    return scale, stddev, (radius > _SMALLEST_SPREAD * farthest.clamp(min=floor)) & (scale > 0)


def _onto_means(scale: Tensor, rotation: Tensor, a: Tensor, b: Tensor, weights: Tensor) -> Similarity:
    """The similarity with this scale and rotation that brings the mean of a onto the mean of b."""
    mean_a, mean_b = _mean(a, weights)[..., 0, :], _mean(b, weights)[..., 0, :]
    return Similarity(scale, rotation, mean_b - scale[..., None] * (rotation @ mean_a[..., None])[..., 0])


def _view_weights(weights: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones_like(like) if weights is None else weights.to(like)


def _views(weights: Tensor) -> Tensor:
    """Number (...) of views that count."""
    return weights.sum(-1).clamp(min=_tiny(weights))


def _mean(centres: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean (..., 1, 3) of centres (..., N, 3)."""
    return (weights[..., None] * centres).sum(-2, keepdim=True) / _views(weights)[..., None, None]


def _has_rank_2(matrix: Tensor) -> Tensor:
    """Whether matrices (..., 3, 3) have rank 2 or 3, from the invariants of M^T M."""
    square = matrix.mT @ matrix
    trace = square.diagonal(dim1=-2, dim2=-1).sum(-1)
    minors = (trace.square() - (square * square).sum((-2, -1))) / 2  # sum of products of two eigenvalues
    return minors > _RANK_TOLERANCE**2 * trace.square()


def _like(value: Tensor | float, other: Tensor) -> Tensor:
    return value.to(other).expand_as(other) if isinstance(value, Tensor) else torch.full_like(other, value)


def _tiny(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).tiny ** 0.5
