"""3D Gaussians of a window in its world frame, from what the Gaussian head says about every pixel.

Colours are real spherical harmonics up to degree 2 with the signs and the order of 3D Gaussian Splatting (Kerbl et
al. 2023): for a unit viewing direction d a colour is 0.5 + sum_k c_k Y_k(d). All of it is computed in fp32, without
waiting for the device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from da3_ros.model.camera import invert_pose, quaternion_from_matrix

# What the head's 37 channels are, in order: pixels, logits, x y z w, 3 colours x 9 coefficients, units of depth.
FIELDS = {"offset": 2, "size": 3, "quaternion": 4, "harmonics": 27, "depth_offset": 1}
HARMONICS = 9                           # coefficients of degree 0, 1 and 2
_MIN_SIZE, _MAX_SIZE = 1e-5, 30.0       # of a Gaussian, in tenths of a pixel of both axes together
_BAND_GAIN = (1.0, 0.025, 0.00625)      # by which coefficients of a degree are multiplied
_ROOT_3 = 3**0.5


@dataclass(frozen=True)
class Gaussians:
    """G Gaussians in the world frame of each of B windows, in the unit of the window's depth and translations.

    The standard deviations are negative where the head moved a Gaussian behind its camera (see world_gaussians);
    these have no place in a picture or file.
    """

    means: Tensor           # (B, G, 3)
    scales: Tensor          # (B, G, 3) standard deviations along the Gaussian's own axes
    rotations: Tensor       # (B, G, 4) unit quaternion w, x, y, z: the Gaussian's own axes to world
    harmonics: Tensor       # (B, G, 3, 9): red, green, blue
    opacities: Tensor       # (B, G) in (0, 1)

    def scaled(self, scale: Tensor) -> Gaussians:
        """The same scene in another unit: ``scale`` (B,) new units per old one, about the origin of the world.

        For the metric scale of a window, and for the scale from predicted to known camera poses, which the
        published code applies (clamped to 1/3 to 3) to camera centres and depth when poses are given.
        """
        scale = scale[:, None, None]
        return Gaussians(self.means * scale, self.scales * scale, self.rotations, self.harmonics, self.opacities)

    def window(self, index: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Means, scales, rotations, harmonics and opacities of one window, without the batch dimension."""
        return (
            self.means[index], self.scales[index], self.rotations[index], self.harmonics[index], self.opacities[index],
        )


torch.export.register_dataclass(Gaussians)


def world_gaussians(
    parameters: Tensor,
    opacity: Tensor,
    depth: Tensor,
    extrinsics: Tensor,
    intrinsics: Tensor,
    published_rotations: bool = False,
) -> Gaussians:
    """Gaussians (B, n H W) of the n views, view by view and row by row, from the outputs of the Gaussian head.

    ``parameters`` (B, n, H, W, 37) and ``opacity`` (B, n, H, W) are as in RawGaussians, ``depth`` is (B, n, H, W),
    ``extrinsics`` (B, n, 3, 4) world to camera, ``intrinsics`` (B, n, 3, 3) without skew, in pixels that are
    counted from the image's corner: the centre of the first one is (0.5, 0.5).

    A Gaussian lies on the ray through its pixel, shifted by the head's offset, at the *distance* depth + depth
    offset from the camera, as in the published code. The depth is one along the optical axis, so without the
    offset a plane would come out as a bowl; the offset was trained under this definition and makes up for the
    difference, hence there is no other mode.

    ``published_rotations``: the published code takes quaternions apart in one order of the components and puts
    them together in another, before and after it rotates to world, so that its orientations are right only for a
    camera whose axes are the world's. The default rotates correctly. Which of the two the published weights were
    trained with is not known.
    """
    offset, size, quaternion, harmonics, depth_offset = parameters.float().split(list(FIELDS.values()), dim=-1)
    pose = invert_pose(extrinsics.float())                                  # camera to world
    rotation, centre = pose[..., :3], pose[..., None, None, :, 3]           # (B, n, 3, 3), (B, n, 1, 1, 3)
    distance = depth + depth_offset[..., 0]

    rays = _rays(offset, rotation, intrinsics.float())                      # (B, n, H, W, 3)
    pixel = 0.1 * intrinsics.float().diagonal(dim1=-2, dim2=-1)[..., :2].reciprocal().sum(-1)
    scales = _MIN_SIZE + (_MAX_SIZE - _MIN_SIZE) * size.sigmoid()
    turn = quaternion_from_matrix(rotation)[:, :, None, None]
    per_view = (
        centre + rays * distance[..., None],
        scales * (distance * pixel[..., None, None])[..., None],
        _world_rotations(quaternion, turn, published_rotations),
        _world_harmonics(harmonics.unflatten(-1, (3, HARMONICS)), rotation),
        opacity,
    )
    return Gaussians(*(value.flatten(1, 3) for value in per_view))


def _rays(offset: Tensor, rotation: Tensor, intrinsics: Tensor) -> Tensor:
    """Unit vectors (B, n, H, W, 3) in world through the pixels, each shifted by offset (B, n, H, W, 2) pixels."""
    height, width = offset.shape[2:4]
    focal = intrinsics.diagonal(dim1=-2, dim2=-1)[:, :, None, None, :2]
    column = torch.arange(width, device=offset.device, dtype=torch.float32).expand(height, width)
    row = torch.arange(height, device=offset.device, dtype=torch.float32)[:, None].expand(height, width)
    pixels = torch.stack([column, row], dim=-1) + 0.5 + offset
    x, y = ((pixels - intrinsics[:, :, None, None, :2, 2]) / focal).split(1, dim=-1)
    # Written out because a product of matrices may be allowed fewer digits than positions need.
    right, down, forward = rotation[:, :, None, None].unbind(-1)
    return (x * right + y * down + forward) / (x * x + y * y + 1).sqrt()


def _world_rotations(quaternion: Tensor, turn: Tensor, published: bool) -> Tensor:
    """Quaternions w, x, y, z in world of x, y, z, w in the camera, ``turn`` being the camera's, x, y, z, w."""
    if published:
        return _compose(turn, quaternion.roll(1, dims=-1))
    return _compose(turn, quaternion).roll(1, dims=-1)


def _compose(first: Tensor, second: Tensor) -> Tensor:
    """Quaternion x, y, z, w with w >= 0 and unit length of the rotation ``first`` after ``second``, (..., 4)."""
    (x1, y1, z1, w1), (x2, y2, z2, w2) = first.unbind(-1), second.unbind(-1)
    product = torch.stack([
        w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
        w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
        w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
    ], dim=-1)
    product = F.normalize(product, dim=-1)
    return torch.where(product[..., 3:] < 0, -product, product)


def _world_harmonics(harmonics: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients (B, n, H, W, 3, 9) in world, with the gains of their degrees, of those in the camera."""
    basis = torch.eye(HARMONICS, device=rotation.device)
    gains = torch.cat([basis.new_full((2 * degree + 1,), gain) for degree, gain in enumerate(_BAND_GAIN)])
    turn = rotate_harmonics(basis, rotation[:, :, None])                    # (B, n, 9, 9): row k is Y_k, turned
    flat = (harmonics * gains).flatten(2, 4)                                # (B, n, H W 3, 9)
    return (flat @ turn).unflatten(2, harmonics.shape[2:5])


def rotate_harmonics(harmonics: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients (..., 9) of the function f'(R d) = f(d), for f with coefficients (..., 9) and R (..., 3, 3).

    Degree 1 is a vector v with f(d) = v . d, which turns to R v; degree 2 is a symmetric, traceless matrix Q with
    f(d) = d . Q d, which turns to R Q R^T. Both up to a factor that the rotation leaves alone.
    """
    constant, c1, c2, c3, c4, c5, c6, c7, c8 = harmonics.unbind(-1)
    vector = torch.stack([-c3, -c1, c2], dim=-1)
    diagonal = c6 / _ROOT_3
    matrix = torch.stack([
        c8 - diagonal, c4, -c7,
        c4, -c8 - diagonal, -c5,
        -c7, -c5, 2 * diagonal,
    ], dim=-1).unflatten(-1, (3, 3))

    x, y, z = (rotation @ vector[..., None])[..., 0].unbind(-1)
    (xx, xy, xz), (_, yy, yz), (_, _, zz) = (row.unbind(-1) for row in (rotation @ matrix @ rotation.mT).unbind(-2))
    constant = constant.expand(x.shape)
    return torch.stack([constant, -y, z, -x, xy, -yz, zz * (_ROOT_3 / 2), -xz, (xx - yy) / 2], dim=-1)
