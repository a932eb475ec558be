"""What a training step is given: pictures of scenes with their exact geometry."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class SceneBatch:
    """B samples, each N views of H x W pixels of one scene; everything on one device.

    ``images`` (B, N, 3, H, W): RGB in 0..1, float (fp32, fp16 or bf16), or uint8 in 0..255; not normalised.
    ``depth`` (B, N, H, W) fp32: z-depth in metres at pixel centres; whatever where ``valid`` is not set.
    ``valid`` (B, N, H, W) bool: depth is known. ``sky`` (B, N, H, W) bool: nothing is hit; never ``valid``.
    ``K`` (B, N, 3, 3) fp32: in pixels counted from the corner of the image, as the network's (the centre of the first
    pixel is (0.5, 0.5)). ``T_cam_world`` (B, N, 4, 4) fp32: world to camera, metres.
    """

    images: Tensor
    depth: Tensor
    valid: Tensor
    sky: Tensor
    K: Tensor
    T_cam_world: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """H, W."""
        return self.images.shape[-2], self.images.shape[-1]

    def samples(self, part: slice) -> SceneBatch:
        """Some of the samples; shares their memory."""
        return SceneBatch(*(getattr(self, field.name)[part] for field in fields(self)))

    def to(self, device: torch.device | str) -> SceneBatch:
        """The same on ``device``."""
        return SceneBatch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))
