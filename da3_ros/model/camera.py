"""Cameras to and from tokens: the decoder that reads poses and focal lengths off camera features, and the encoder
that turns known cameras into camera tokens (arXiv 2511.10647, section 3).

Both work on nine numbers per view: the camera centre in the world (3), the rotation camera to world as a
quaternion x, y, z, w (4), and the vertical and the horizontal field of view in radians (2). The principal point is
the image centre. All of it is computed in fp32.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_ros.model.layers import Block
from da3_ros.model.regions import region

_ENCODER_LAYERS = 4
_ENCODER_HEADS = 16
_ROUNDING = 1e-5                # of centres, relative to their distance from the world's origin


class CameraDecoder(nn.Module):
    """Camera feature of a view to its extrinsics and intrinsics."""

    keep_fp32 = True

    def __init__(self, dim: int):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.fc_t = nn.Linear(dim, 3)
        self.fc_qvec = nn.Linear(dim, 4)
        self.fc_fov = nn.Sequential(nn.Linear(dim, 2), nn.ReLU())

    @region
    def forward(self, camera: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """World-to-camera (..., 3, 4) and K (..., 3, 3) in pixels of images of ``size`` (H, W), of camera (..., 2D)."""
        return cameras_from_encoding(*self.encoding(camera), size)

    def encoding(self, camera: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The nine numbers of each view: centre (..., 3), quaternion (..., 4) of any length, fov (..., 2)."""
        hidden = self.backbone(camera.float())
        return self.fc_t(hidden), self.fc_qvec(hidden), self.fc_fov(hidden)


class CameraEncoder(nn.Module):
    """Known cameras of all views of a window to camera tokens."""

    keep_fp32 = True

    def __init__(self, dim: int):
        super().__init__()
        self.pose_branch = nn.ModuleDict({"fc1": nn.Linear(9, dim // 2), "fc2": nn.Linear(dim // 2, dim)})
        self.token_norm = nn.LayerNorm(dim, eps=1e-5)
        self.trunk = nn.ModuleList(Block(dim, _ENCODER_HEADS, eps=1e-5) for _ in range(_ENCODER_LAYERS))
        self.trunk_norm = nn.LayerNorm(dim, eps=1e-5)

    def forward(self, extrinsics: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
        """Camera tokens (B, N, D) of world-to-camera (B, N, 3 or 4, 4) and K (B, N, 3, 3) in pixels.

        ``size`` is (H, W) of the images. The network was trained with view 0 at the world's origin and the
        median distance of the cameras from it as the unit of length: see normalise_cameras.
        """
        encoding = encoding_from_cameras(extrinsics.float(), intrinsics.float(), size)
        tokens = self.pose_branch["fc2"](F.gelu(self.pose_branch["fc1"](encoding)))
        tokens = self.token_norm(tokens)[:, None]           # (B, 1, N, D): the views are the tokens
        for block in self.trunk:
            tokens = block(tokens)
        return self.trunk_norm(tokens)[:, 0]


def normalise_cameras(extrinsics: Tensor, as_published: bool = False) -> Tensor:
    """World-to-camera poses as the encoder wants them: view 0 at the origin, lengths in a unit that fits the views.

    ``extrinsics`` (B, N, 3 or 4, 4) in any world and unit; returns (B, N, 4, 4) fp32. The published code's unit is
    the median distance of the cameras from view 0 (the lower one, view 0 counted with its distance of zero), but
    at least 0.1: so two views lie 10 times their distance apart, and what happens depends on the unit of the
    input. Here it is the same median, but at least the smallest distance among those within a factor of ten of the
    largest: two views are one unit apart, and views that all but coincide with view 0 do not blow up the others.
    Where all cameras are in one place the unit does not matter and is 1. ``as_published`` takes the published one.
    """
    extrinsics = extrinsics[..., :3, :].double()
    relative = extrinsics @ _to_4x4(invert_pose(extrinsics[..., :1, :, :]))
    distance = invert_pose(relative)[..., 3].norm(dim=-1)                  # (B, N) from view 0
    unit = distance.median(dim=-1).values
    if as_published:
        unit = unit.clamp(min=0.1)
    else:
        farthest = distance.amax(-1, keepdim=True)
        moved = torch.where(distance >= 0.1 * farthest, distance, torch.inf).amin(-1)
        # What is left of equal centres after rounding in single precision is no distance.
        noise = _ROUNDING * extrinsics[..., 3].norm(dim=-1).amax(-1)
        unit = torch.where(farthest[..., 0] > noise, torch.maximum(unit, moved), 1.0)
    scaled = torch.cat([relative[..., :3], relative[..., 3:] / unit[..., None, None, None]], dim=-1)
    return _to_4x4(scaled).float()


def _to_4x4(pose: Tensor) -> Tensor:
    """Rigid transforms (..., 3, 4) as (..., 4, 4)."""
    row = torch.zeros_like(pose[..., :1, :])
    row[..., 3] = 1.0
    return torch.cat([pose, row], dim=-2)


def cameras_from_encoding(
    centre: Tensor, quat_xyzw: Tensor, fov: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """World-to-camera (..., 3, 4) and K (..., 3, 3) of centre (..., 3), quaternion (..., 4), fov (..., 2)."""
    rotation = matrix_from_quaternion(quat_xyzw)            # camera to world
    extrinsics = invert_pose(torch.cat([rotation, centre[..., None]], dim=-1))

    height, width = size
    focal_y, focal_x = ((fov / 2).tan().clamp(min=1e-6).reciprocal() / 2).unbind(-1)
    zero, one = torch.zeros_like(focal_x), torch.ones_like(focal_x)
    intrinsics = torch.stack([
        focal_x * width, zero, one * (width / 2),
        zero, focal_y * height, one * (height / 2),
        zero, zero, one,
    ], dim=-1).unflatten(-1, (3, 3))
    return extrinsics, intrinsics


def encoding_from_cameras(extrinsics: Tensor, intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """The nine numbers (..., 9) of world-to-camera (..., 3 or 4, 4) and K (..., 3, 3)."""
    height, width = size
    pose = invert_pose(extrinsics[..., :3, :])              # camera to world
    fov = 2 * torch.stack([
        torch.atan(height / 2 / intrinsics[..., 1, 1]),
        torch.atan(width / 2 / intrinsics[..., 0, 0]),
    ], dim=-1)
    return torch.cat([pose[..., 3], quaternion_from_matrix(pose[..., :3]), fov], dim=-1)


def invert_pose(pose: Tensor) -> Tensor:
    """Inverse of rigid transforms (..., 3, 4)."""
    rotation = pose[..., :3].mT
    return torch.cat([rotation, -rotation @ pose[..., 3:]], dim=-1)


def matrix_from_quaternion(quat_xyzw: Tensor) -> Tensor:
    """Rotation (..., 3, 3) of a quaternion (..., 4) of any length but zero."""
    x, y, z, w = quat_xyzw.unbind(-1)
    s = 2 / quat_xyzw.square().sum(-1)
    return torch.stack([
        1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w),
        s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w),
        s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y),
    ], dim=-1).unflatten(-1, (3, 3))


def quaternion_from_matrix(rotation: Tensor) -> Tensor:
    """Unit quaternion x, y, z, w (..., 4) with w >= 0 of a rotation (..., 3, 3)."""
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = rotation.flatten(-2).unbind(-1)
    # Row i is 4 q_i (x, y, z, w); the row with the largest diagonal entry is the best conditioned one.
    products = torch.stack([
        1 + m00 - m11 - m22, m10 + m01, m02 + m20, m21 - m12,
        m10 + m01, 1 - m00 + m11 - m22, m12 + m21, m02 - m20,
        m02 + m20, m12 + m21, 1 - m00 - m11 + m22, m10 - m01,
        m21 - m12, m02 - m20, m10 - m01, 1 + m00 + m11 + m22,
    ], dim=-1).unflatten(-1, (4, 4))
    best = products.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = products.take_along_dim(best[..., None, None], dim=-2).squeeze(-2)
    quaternion = F.normalize(row, dim=-1)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)
