"""Enlarging a map of log depth with the picture as a guide: an edge of depth is put where the picture has one.

Interpolation puts surfaces into the air between an object and what is behind it. Where the four pixels around a point
lie on two surfaces, the point takes the value of that pixel whose colour is nearest to its own. It is joint bilateral
upsampling (Kopf, Cohen, Lischinski and Uyttendaele, "Joint Bilateral Upsampling", SIGGRAPH 2007) in the limit of a
narrow range kernel, and only where it is needed: elsewhere, and where the picture does not tell the surfaces apart,
the interpolated value stays.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_DEPTH_JUMP = 0.4       # of log depth between neighbours, from which on they are taken to lie on two surfaces
# Squared distance of normalised colours (a deviation of 1 is about 57 grey levels), summed over three channels, by
# which the nearest neighbour must be nearer than the farthest: ten grey levels in each, above what noise reaches.
_COLOUR_DIFFERENCE = 0.1


def as_guide(images: Tensor) -> Tensor:
    """What is kept of images (..., 3, H, W) to guide: float16, normalised as they are."""
    return images.to(torch.float16)


def snap_to_guide(coarse: Tensor, enlarged: Tensor, guide: Tensor) -> Tensor:
    """``enlarged`` (V, C, H, W), with the values of single pixels of ``coarse`` where that shows two surfaces.

    ``coarse`` (V, C, h, w) is the map that was enlarged, corner pixels onto corner pixels, h and w at least 2; its
    channel 0 is log depth, which decides for all. ``guide`` (V, 3, H, W): as_guide of the pictures.
    """
    picture = guide.float()
    small = F.interpolate(picture, size=coarse.shape[-2:], mode="bilinear", align_corners=True)
    both = torch.cat([coarse, small.to(coarse.dtype)], 1)
    top, left = (
        torch.arange(to, device=coarse.device) * (n - 1) // (to - 1)
        for n, to in zip(coarse.shape[-2:], enlarged.shape[-2:], strict=True)
    )
    # The last pixel lies on the last one of the coarse map and has none beyond it.
    top, left = top.clamp(max=coarse.shape[-2] - 2), left.clamp(max=coarse.shape[-1] - 2)
    rows = both[:, :, top], both[:, :, top + 1]
    channels = coarse.shape[1]
    value: Tensor | None = None
    for neighbour in (part[..., left + step] for part in rows for step in (0, 1)):
        log_depth = neighbour[:, :1]
        distance = (picture - neighbour[:, channels:]).square().sum(1, keepdim=True)
        if value is None:
            value, nearest, farthest = neighbour[:, :channels], distance, distance
            low, high = log_depth, log_depth
            continue
        value = torch.where(distance < nearest, neighbour[:, :channels], value)
        nearest, farthest = torch.minimum(nearest, distance), torch.maximum(farthest, distance)
        low, high = torch.minimum(low, log_depth), torch.maximum(high, log_depth)
    assert value is not None
    told_apart = (high - low > _DEPTH_JUMP) & (farthest - nearest > _COLOUR_DIFFERENCE)
    return torch.where(told_apart, value, enlarged)
