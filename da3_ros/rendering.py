"""Pictures of 3D Gaussians from any camera, drawn by gsplat, and how near they come to real ones.

gsplat (https://github.com/nerfstudio-project/gsplat) is optional: ``pip install gsplat``. It needs a CUDA
device, and compiles its kernels at the first use, which takes some minutes and needs the CUDA compiler.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from da3_ros.errors import InputError, UnavailableError
from da3_ros.geometry.gaussian_ply import GaussianCloud

_NEAREST = 0.01  # share of the scene's extent (median distance of the Gaussians) nearer than which none is drawn


class Rendering(NamedTuple):
    """Pictures of V cameras."""

    images: torch.Tensor  # (V, 3, H, W) RGB, 0 to about 1
    depth: torch.Tensor  # (V, H, W) z-depth, mean over what was drawn; 0 where nothing was
    coverage: torch.Tensor  # (V, H, W) 0 where one looks past all Gaussians, 1 where through none


def render(
    cloud: GaussianCloud,
    extrinsics: torch.Tensor,
    intrinsics: torch.Tensor,
    size: tuple[int, int],
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Rendering:
    """Pictures of ``size`` (H, W) of the valid Gaussians of ``cloud``, on its device.

    ``extrinsics`` (V, 3 or 4, 4) world to camera; ``intrinsics`` (V, 3, 3) in pixels counted from the image's corner
    (the centre of the first one is (0.5, 0.5)), as the network has it. Raises UnavailableError where gsplat or a CUDA
    device is missing, InputError for Gaussians elsewhere.
    """
    rasterization = find_rasterizer()
    if cloud.means.device.type != "cuda":
        raise InputError(f"Gaussians on {cloud.means.device} cannot be rendered: move them to a CUDA device")
    cloud = cloud.keep(cloud.valid())
    views, device = len(extrinsics), cloud.means.device
    poses = torch.eye(4, device=device).repeat(views, 1, 1)
    poses[:, :3] = extrinsics[:, :3].to(device, torch.float32)
    centre = cloud.means.median(dim=0).values
    extent = (cloud.means - centre).norm(dim=1).median()
    drawn, coverage, _ = rasterization(
        means=cloud.means.float(),
        quats=cloud.rotations.float(),
        scales=cloud.scales.float(),
        opacities=cloud.opacities.float(),
        colors=cloud.harmonics.float().mT.contiguous(),
        viewmats=poses,
        Ks=intrinsics.to(device, torch.float32).contiguous(),
        width=size[1],
        height=size[0],
        near_plane=_NEAREST * float(extent),
        sh_degree=cloud.degree,
        backgrounds=torch.tensor(background, device=device).expand(views, 3),
        render_mode="RGB+ED",
        packed=False,  # gsplat 1.5.3 refuses backgrounds with packed
    )
    images, depth = drawn[..., :3].permute(0, 3, 1, 2), drawn[..., 3]
    return Rendering(images.contiguous(), depth, coverage[..., 0])


def find_rasterizer() -> Callable[..., Any]:
    """gsplat's function, its kernels compiled; raises UnavailableError, in one line with the mend, where it cannot be.

    The first call on a machine compiles for some minutes.
    """
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise UnavailableError(
            f"rendering needs gsplat, which cannot be imported ({error}): pip install gsplat"
        ) from error
    if not torch.cuda.is_available():
        raise UnavailableError(
            f"rendering needs a CUDA device, and torch {torch.__version__} sees none: render on a machine with one"
        )
    try:
        from gsplat.cuda._backend import _C
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnavailableError(
            f"gsplat's kernels cannot be compiled here ({reason}): see the compiler's output with VERBOSE=1, or "
            "install a gsplat wheel that is already compiled"
        ) from error
    if _C is None:
        raise UnavailableError(
            "gsplat compiles its kernels, but there is no CUDA toolkit: install nvcc and set CUDA_HOME, or install a "
            "gsplat wheel that is already compiled"
        )
    return rasterization


def cameras_between(
    extrinsics: torch.Tensor, intrinsics: torch.Tensor, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """``steps`` cameras between each of V and the next: (V - 1) * steps poses (3, 4) world to camera, and K (3, 3).

    Centres and intrinsics go straight, rotations about one fixed axis, all at even distances.
    """
    rotation = extrinsics[:, :3, :3].double().mT  # camera to world
    centre = -(rotation @ extrinsics[:, :3, 3:].double())
    between = torch.arange(1, steps + 1, dtype=torch.float64, device=rotation.device) / (steps + 1)
    share = between[None, :, None, None]  # (1, steps, 1, 1)
    turn = rotation[:-1].mT @ rotation[1:]
    part = torch.linalg.matrix_exp(share * _logarithm(turn)[:, None])
    rotation = rotation[:-1, None] @ part
    centre = torch.lerp(centre[:-1, None], centre[1:, None], share)
    poses = torch.cat([rotation.mT, -(rotation.mT @ centre)], dim=-1)
    K = torch.lerp(intrinsics[:-1, None].double(), intrinsics[1:, None].double(), share)
    return poses.flatten(0, 1).to(extrinsics.dtype), K.flatten(0, 1).to(intrinsics.dtype)


def _logarithm(rotation: torch.Tensor) -> torch.Tensor:
    """Antisymmetric matrices (V, 3, 3) whose exponentials are the rotations (V, 3, 3); not for half turns."""
    skew = (rotation - rotation.mT) / 2  # sin(angle) times the axis
    sine = torch.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], dim=-1).norm(dim=-1)
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    factor = torch.atan2(sine, cosine) / sine.clamp(min=1e-12)
    return skew * torch.where(sine < 1e-12, 1.0, factor)[:, None, None]


def psnr(images: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB, (V,), of images (V, 3, H, W) against targets of the same shape.

    Both are in 0 to 1, and clamped to it. ``mask`` (V, H, W) bool says which pixels count (None: all). Equal images
    have +Inf; one of which no pixel counts has NaN.
    """
    if images.shape != targets.shape:
        raise InputError(f"images of shape {tuple(images.shape)} and {tuple(targets.shape)} cannot be compared")
    error = (images.float().clamp(0, 1) - targets.float().clamp(0, 1)).square().mean(1)
    weight = torch.ones_like(error) if mask is None else mask.to(error.dtype)
    return -10 * ((error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1)).log10()
