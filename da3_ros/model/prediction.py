"""What a network returns, and the checks of what it is given."""

from dataclasses import dataclass

import torch
from torch import Tensor

from da3_ros.errors import InputError
from da3_ros.model.gaussians import Gaussians
from da3_ros.model.variants import PATCH


@dataclass(frozen=True)
class Prediction:
    """Result for B windows of N views of H x W pixels; fields that a network does not have are None.

    Depth, translations and rays share one scale: metres where ``scale`` is there, else arbitrary (but see
    SingleViewDepth). Depth is +Inf where there is sky.
    """

    depth: Tensor                           # (B, N, H, W) fp32, z-depth, > 0
    depth_conf: Tensor | None = None        # (B, N, H, W) fp32, > 1, higher is better
    extrinsics: Tensor | None = None        # (B, N, 3, 4) fp32, world to camera (T_cam_world)
    intrinsics: Tensor | None = None        # (B, N, 3, 3) fp32, in pixels of the H x W image
    ray: Tensor | None = None               # (B, N, 8H/14, 8W/14, 6) fp32: direction (unnormalised), origin
    ray_conf: Tensor | None = None          # (B, N, 8H/14, 8W/14) fp32, > 1
    sky: Tensor | None = None               # (B, N, H, W) fp32, >= 0, sky where large (see sky_mask)
    scale: Tensor | None = None             # (B,) fp32, metres per unit of the any-view network, applied already
    scale_stddev: Tensor | None = None      # (B,) fp32, metres per unit
    gaussians: Gaussians | None = None      # one for every pixel, in the same frame and unit as the extrinsics


torch.export.register_dataclass(Prediction)     # so that whole networks can be exported

def check_images(images: Tensor, device: torch.device) -> None:
    """Raises InputError unless images are (B, N, 3, H, W), floating, H and W multiples of 14, on ``device``."""
    if not isinstance(images, Tensor):
        raise InputError(f"images must be a tensor (B, N, 3, H, W), not {type(images).__name__}")
    shape = tuple(images.shape)
    if images.ndim != 5 or shape[2] != 3:
        raise InputError(f"images have shape {shape} but must be (B, N, 3, H, W)")
    if shape[0] < 1 or shape[1] < 1:
        raise InputError(f"images have shape {shape}: at least one window of one view is needed")
    if shape[3] < PATCH or shape[4] < PATCH or shape[3] % PATCH or shape[4] % PATCH:
        raise InputError(f"images are {shape[3]} x {shape[4]} pixels but height and width must be multiples of {PATCH}")
    if images.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise InputError(f"images are {images.dtype} but must be normalised floats (float32, bfloat16 or float16)")
    if images.device != device:
        raise InputError(f"images are on {images.device} but the network is on {device}")


def check_cameras(extrinsics: Tensor | None, intrinsics: Tensor | None, images: Tensor) -> None:
    """Raises InputError unless they fit the images: (B, N, 3 or 4, 4) with intrinsics, (B, N, 3, 3) also alone."""
    views = tuple(images.shape[:2])
    if extrinsics is not None and intrinsics is None:
        raise InputError("extrinsics are given but intrinsics are missing: known poses need the intrinsics with them")
    if extrinsics is not None and tuple(extrinsics.shape) not in ((*views, 3, 4), (*views, 4, 4)):
        raise InputError(f"extrinsics have shape {tuple(extrinsics.shape)} but must be {(*views, 3, 4)} or (..., 4, 4)")
    if intrinsics is not None and tuple(intrinsics.shape) != (*views, 3, 3):
        raise InputError(f"intrinsics have shape {tuple(intrinsics.shape)} but must be {(*views, 3, 3)}")
    for name, value in (("extrinsics", extrinsics), ("intrinsics", intrinsics)):
        if value is not None and (value.device != images.device or not value.is_floating_point()):
            raise InputError(f"{name} are {value.dtype} on {value.device}; floats on {images.device} are needed")
