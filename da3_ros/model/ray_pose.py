"""Cameras from a ray map, as an alternative to the camera decoder (arXiv 2511.10647, section 3.1).

A ray map gives for every pixel the direction d = R K^-1 p and the origin of its viewing ray in the world. Up to
scale R K^-1 is a homography from pixels to directions; it is estimated robustly and taken apart into R and K.
Everything is batched over views, seeded, and never waits for the device.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from da3_ros.model.camera import invert_pose

_SAMPLES = 100
_POINTS = 8                     # per sample
_CANDIDATES = 0.3               # share of the pixels, the most confident ones, that samples are drawn from
_INLIER_DISTANCE = 0.2          # on the plane z = 1
_MIN_Z = 1e-4                   # directions flatter than this have no point on that plane
_SEED = 0
_SQUARINGS = 10                 # 2**10 steps of inverse iteration
# Samples times pixels that are looked at together: what stays in a cache, what fills the device.
_PAIRS_CPU, _PAIRS_GPU = 1 << 18, 1 << 25


class RayTables(NamedTuple):
    """What depends on the size of the ray map alone."""

    points: Tensor      # (h w, 3) homogeneous pixel centres of an image that spans [-1, 1] x [-1, 1]
    samples: Tensor     # (S, 8) int64, ranks among the most confident pixels


def make_ray_tables(h: int, w: int, device: torch.device) -> RayTables:
    """Tables of h x w ray maps; the samples are random but the same every time."""
    x = torch.linspace(-1 + 1 / w, 1 - 1 / w, w, device=device).expand(h, w)
    y = torch.linspace(-1 + 1 / h, 1 - 1 / h, h, device=device)[:, None].expand(h, w)
    generator = torch.Generator().manual_seed(_SEED)
    chance = torch.rand(_SAMPLES, _candidates(h * w), generator=generator, device="cpu")
    samples = chance.topk(_POINTS, dim=1).indices.to(device)
    return RayTables(torch.stack([x, y, torch.ones_like(x)], dim=-1).flatten(0, 1), samples)


def _candidates(pixels: int) -> int:
    return max(_POINTS, int(_CANDIDATES * pixels))


def cameras_from_rays(
    ray: Tensor,
    confidence: Tensor,
    size: tuple[int, int],
    tables: RayTables,
    published_factorisation: bool = False,
) -> tuple[Tensor, Tensor]:
    """World-to-camera (B, N, 3, 4) and K (B, N, 3, 3) of ray (B, N, h, w, 6) and its confidence (B, N, h, w).

    K is in pixels of the image of ``size`` (H, W) that the rays belong to; ``tables`` are those of h x w.
    ``published_factorisation`` takes the homography apart as the published code does: into a rotation and a lower
    triangular matrix. That is right only for a principal point in the image centre, because K^-1 is upper
    triangular; the default is right for any. Where the published code refits to a random 8000 of the inliers, all
    of them are used.
    """
    lead = ray.shape[:2]
    directions, origins = ray.float().flatten(2, 3).flatten(0, 1).split(3, dim=-1)     # 2 x (V, h w, 3)
    z = directions[..., 2:]
    usable = z.abs() > _MIN_Z
    weights = confidence.float().flatten(2).flatten(0, 1) * usable[..., 0]              # (V, h w)
    targets = directions[..., :2] / torch.where(usable, z, torch.ones_like(z))          # (V, h w, 2)

    homography = _robust_homography(tables, targets, weights, ray.shape[2])             # (V, 3, 3)
    homography = homography * torch.linalg.det(homography).sign()[:, None, None]
    if published_factorisation:
        rotation, focal, principal = _rotation_times_lower(homography)
    else:
        rotation, focal, principal = _rotation_times_upper(homography)
    centre = (weights[..., None] * origins).sum(1) / weights.sum(1, keepdim=True)
    extrinsics = invert_pose(torch.cat([rotation.float(), centre[..., None]], dim=-1))
    return extrinsics.unflatten(0, lead), _pixel_intrinsics(focal, principal, size).unflatten(0, lead)


def _robust_homography(tables: RayTables, targets: Tensor, weights: Tensor, rows: int) -> Tensor:
    """Homography (V, 3, 3), fp64, from points to targets (V, n, 2): best of the samples, refitted to its inliers.

    ``rows`` is h of n = h w.
    """
    views, points = torch.arange(len(targets), device=targets.device), tables.points
    ranked = weights.topk(_candidates(weights.shape[1]), dim=1).indices                 # (V, candidates)
    chosen, view = ranked[:, tables.samples], views[:, None, None]                      # (V, S, 8)
    samples = _normal_matrix(points[chosen], targets[view, chosen], weights[view, chosen])
    models = _homography(samples).float()                                               # (V, S, 3, 3)
    best = _scores(models, points, targets, weights).argmax(1)                          # (V,)
    kept = weights * _inliers(models[views, best][:, None], points, targets)[:, 0]
    # Row by row, then added up: one sum over all pixels would keep but a few of the device's processors busy.
    by_row = (points.unflatten(0, (rows, -1)), targets.unflatten(1, (rows, -1)), kept.unflatten(1, (rows, -1)))
    return _homography(_normal_matrix(*by_row).sum(1))


def _scores(homographies: Tensor, points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Total weight (V, S) of the inliers of each homography; some pixels at a time, to bound the memory."""
    views, samples = homographies.shape[:2]
    pairs = _PAIRS_CPU if targets.device.type == "cpu" else _PAIRS_GPU
    block = max(1, pairs // (views * samples))
    scores = torch.zeros((views, samples, 1), device=targets.device)
    for start in range(0, points.shape[0], block):
        part = slice(start, start + block)
        inliers = _inliers(homographies, points[part], targets[:, part])
        scores = torch.baddbmm(scores, inliers.float(), weights[:, part, None])
    return scores[..., 0]


def _inliers(homographies: Tensor, points: Tensor, targets: Tensor) -> Tensor:
    """Which of points (n, 3) each of homographies (V, S, 3, 3) maps close to targets (V, n, 2); (V, S, n).

    The distance times the third coordinate z of the mapped point is linear in the homography: products of matrices
    make it, and nothing is divided.
    """
    plane = points.mT.expand(len(targets), -1, -1)                                      # (V, 3, n)
    first, second, third = homographies.unbind(2)                                       # (V, S, 3)
    along_u = torch.cat([first, third], -1) @ torch.cat([plane, plane * -targets[..., None, :, 0]], 1)
    along_v = torch.cat([second, third], -1) @ torch.cat([plane, plane * -targets[..., None, :, 1]], 1)
    reach = (_INLIER_DISTANCE * third) @ plane
    return along_u.square_().addcmul_(along_v, along_v) < reach.square_()


def _normal_matrix(points: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Normal matrix (..., 9, 9), fp64, of the direct linear transform from points (..., n, 3) to targets (..., n, 2).

    The weighted squared algebraic error of a homography with rows h is h^T normal h. The matrix is made of four
    weighted second moments of the points; weights are (..., n).
    """
    points, targets, weights = points.double(), targets.double(), weights.double()
    u, v = targets.unbind(-1)

    def moment(factor: Tensor) -> Tensor:
        return (points * (weights * factor)[..., None]).mT @ points

    plain, along_u, along_v = moment(torch.ones_like(u)), moment(u), moment(v)
    zero = torch.zeros_like(plain)
    return torch.cat([
        torch.cat([plain, zero, -along_u], dim=-1),
        torch.cat([zero, plain, -along_v], dim=-1),
        torch.cat([-along_u, -along_v, moment(u * u + v * v)], dim=-1),
    ], dim=-2)


def _homography(normal: Tensor) -> Tensor:
    """Least-squares homography (..., 3, 3) of norm 1 of a normal matrix (..., 9, 9)."""
    return _smallest_eigenvector(normal).unflatten(-1, (3, 3))


def _smallest_eigenvector(matrix: Tensor) -> Tensor:
    """Unit eigenvector (..., n) of the smallest eigenvalue of positive semidefinite (..., n, n), up to its sign.

    Inverse iteration by repeated squaring. Unlike an eigenvalue solver it does not report back to the host.
    """
    n = matrix.shape[-1]
    trace = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    identity = torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    shifted = matrix / trace.clamp(min=torch.finfo(matrix.dtype).tiny) + 1e-14 * identity
    power = torch.linalg.inv_ex(shifted).inverse
    for _ in range(_SQUARINGS):
        power = power / power.abs().amax((-2, -1), keepdim=True)
        power = power @ power
    column = power.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    vector = power.take_along_dim(column, dim=-1).squeeze(-1)
    return vector / vector.norm(dim=-1, keepdim=True)


def _orthonormal(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (V, 3): along the first, and along what of the second is perpendicular to it."""
    a = first / first.norm(dim=-1, keepdim=True)
    b = second - (a * second).sum(-1, keepdim=True) * a
    return a, b / b.norm(dim=-1, keepdim=True)


def _rotation_times_upper(homography: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """R (V, 3, 3), focal lengths and principal point (V, 2) in half image sizes, of H = s R K^-1 with det H > 0."""
    a, b = _orthonormal(homography[..., 0], homography[..., 1])
    rotation = torch.stack([a, b, torch.linalg.cross(a, b)], dim=-1)
    upper = rotation.mT @ homography
    inverse_k = upper / upper[:, 2:, 2:]
    focal = inverse_k.diagonal(dim1=-2, dim2=-1)[:, :2].reciprocal()
    y = -inverse_k[:, 1, 2] * focal[:, 1]
    x = -(inverse_k[:, 0, 2] + inverse_k[:, 0, 1] * y) * focal[:, 0]
    return rotation, focal, torch.stack([x, y], dim=-1)


def _rotation_times_lower(homography: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same as the published code has it, from H = s Q L with L lower triangular."""
    c, b = _orthonormal(homography[..., 2], homography[..., 1])
    rotation = torch.stack([torch.linalg.cross(b, c), b, c], dim=-1)
    lower = rotation.mT @ homography
    lower = lower / lower[:, 2:, 2:]
    return rotation, lower.diagonal(dim1=-2, dim2=-1)[:, :2].reciprocal(), lower[:, 2, :2]


def _pixel_intrinsics(focal: Tensor, principal: Tensor, size: tuple[int, int]) -> Tensor:
    """K (V, 3, 3) fp32 in pixels, of focal and principal point (V, 2) in an image that spans [-1, 1] both ways."""
    height, width = size
    (fx, fy), (cx, cy) = focal.float().unbind(-1), principal.float().unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    return torch.stack([
        fx * (width / 2), zero, (cx + 1) * (width / 2),
        zero, fy * (height / 2), (cy + 1) * (height / 2),
        zero, zero, one,
    ], dim=-1).unflatten(-1, (3, 3))
