"""Raw pixels of every encoding in ``Frame`` to float RGB, on the device that holds them.

YUV follows OpenCV's conversion: BT.601 with limited range, chroma repeated for the pixels that share it.
"""

from __future__ import annotations

import torch

from da3_ros.errors import InputError

# Which channels of ``to_float`` are red, green and blue.
_RGB_CHANNELS = {"bgr8": (2, 1, 0), "bgra8": (2, 1, 0), "mono8": (0, 0, 0), "mono16": (0, 0, 0)}


def rgb_channels(encoding: str) -> tuple[int, int, int]:
    """Which channels of ``to_float``'s result are red, green and blue."""
    return _RGB_CHANNELS.get(encoding, (0, 1, 2))


def to_float(raw: torch.Tensor, encoding: str) -> torch.Tensor:
    """Raw uint8 pixels (B, rows, W, bytes) as in ``Frame.image`` to float32 (B, H, W, c), values 0 to 255.

    c is 1 or 3 and in the order of the encoding (see ``rgb_channels``): swapping channels is cheaper after
    the image has been made smaller.
    """
    if encoding in ("rgb8", "bgr8", "mono8"):
        return raw.to(torch.float32)
    if encoding in ("rgba8", "bgra8"):
        return raw[..., :3].to(torch.float32, memory_format=torch.contiguous_format)
    if encoding == "mono16":
        low, high = raw.to(torch.float32).unbind(-1)
        return ((low + 256.0 * high) / 257.0).unsqueeze(-1)
    if encoding in ("yuv422", "yuv422_yuy2"):
        return _from_yuv422(raw, luma_first=encoding == "yuv422_yuy2")
    if encoding in ("nv12", "nv21"):
        return _from_semiplanar(raw, u_first=encoding == "nv12")
    raise InputError(f"pixel encoding '{encoding}' is not one of Frame's: convert the image to rgb8")


def _from_yuv422(raw: torch.Tensor, luma_first: bool) -> torch.Tensor:
    batch, height, width, _ = raw.shape
    pairs = raw.reshape(batch, height, width // 2, 4).to(torch.float32)
    luma, chroma = (pairs[..., 0::2], pairs[..., 1::2]) if luma_first else (pairs[..., 1::2], pairs[..., 0::2])
    rgb = _yuv_to_rgb(luma, chroma[..., 0, None], chroma[..., 1, None])  # (B, H, W / 2, 2, 3)
    return rgb.view(batch, height, width, 3)


def _from_semiplanar(raw: torch.Tensor, u_first: bool) -> torch.Tensor:
    batch, rows, width, _ = raw.shape
    height = rows * 2 // 3
    values = raw.reshape(batch, rows, width).to(torch.float32)
    luma = values[:, :height].view(batch, height // 2, 2, width // 2, 2)
    chroma = values[:, height:].view(batch, height // 2, 1, width // 2, 1, 2)
    first, second = chroma.unbind(-1)
    rgb = _yuv_to_rgb(luma, first, second) if u_first else _yuv_to_rgb(luma, second, first)
    return rgb.view(batch, height, width, 3)


def _yuv_to_rgb(luma: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """RGB (..., 3) of luma and the chroma that broadcasts to it (BT.601, limited range)."""
    scaled = (luma - 16.0).clamp_(min=0.0).mul_(1.164)
    u, v = u - 128.0, v - 128.0
    rgb = torch.empty((*luma.shape, 3), dtype=luma.dtype, device=luma.device)
    torch.add(scaled, 1.596 * v, out=rgb[..., 0])
    torch.add(scaled, -0.813 * v - 0.391 * u, out=rgb[..., 1])
    torch.add(scaled, 2.018 * u, out=rgb[..., 2])
    return rgb.clamp_(0.0, 255.0)
