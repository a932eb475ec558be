"""What cameras do to pictures: exposure, colour, gamma, vignetting, blur, noise, and the blocks of compression."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from da3_ros.training.worlds.casting import dot
from da3_ros.training.worlds.chunks import divided
from da3_ros.training.worlds.draws import Draws, constant, hashed
from da3_ros.training.worlds.rendering import stage

# Quantiser steps of luminance in the JPEG standard's example (ITU-T T.81, table K.1), for values of 0..255.
_STEPS = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_NUMBERS = 64
_AT_ONCE = 512  # views


def degraded(colour: Tensor, seeds: Tensor, compiled: bool) -> Tensor:
    """sRGB-like pictures (B, N, 3, H, W) uint8 of linear ones; what a camera does is alike in a sample's views."""
    B, N = colour.shape[:2]
    d = Draws(~seeds, _NUMBERS)
    per_view = torch.stack(
        [
            d.log_uniform(0.6, 1.6, 1) * (1 + 0.08 * d.normal(1)).expand(-1, N),  # exposure
            1.0 / d.uniform(1.8, 2.6, 1).expand(-1, N),  # gamma
            torch.where(d.chance(0.5, 1), d.uniform(0.0, 0.5, 1), 0.0).expand(-1, N),  # vignetting
            torch.where(d.chance(0.5, 1), d.log_uniform(0.3, 1.3, 1), 0.2).expand(-1, N),  # blur, pixels
            torch.where(d.chance(0.7, 1), d.log_uniform(0.002, 0.06, 1), 0.0).expand(-1, N),  # noise
            torch.where(d.chance(0.5, 1), d.log_uniform(0.15, 1.5, 1), 0.0).expand(-1, N),  # compression
            *(1.0 + 0.07 * d.normal(1).expand(-1, N) for _ in range(3)),  # white balance
        ],
        -1,
    ).flatten(0, 1)
    view = torch.arange(N, device=seeds.device)
    noise_seed = (hashed(~seeds * 7919 + 1, N) * 2**24).int() + 0 * view.int()
    function = stage(_degraded) if compiled else _degraded
    flat, seed = colour.flatten(0, 1), noise_seed.flatten()
    at_once, steps = divided(B * N, _AT_ONCE), constant(_STEPS, colour.device)
    parts = [
        function(flat[i : i + at_once], per_view[i : i + at_once], seed[i : i + at_once], steps)
        for i in range(0, B * N, at_once)
    ]
    return torch.cat(parts).unflatten(0, (B, N))


def _degraded(colour: Tensor, numbers: Tensor, seed: Tensor, steps: Tensor) -> Tensor:
    exposure, gamma, vignette, blur, noise, coarse = (numbers[:, i].view(-1, 1, 1, 1) for i in range(6))
    V, _, H, W = colour.shape
    y = torch.linspace(-1, 1, H, device=colour.device).view(1, 1, H, 1)
    x = torch.linspace(-1, 1, W, device=colour.device).view(1, 1, 1, W)
    image = colour * exposure * numbers[:, 6:9].view(-1, 3, 1, 1) * (1.0 - vignette * (x * x + y * y) / 2)
    image = _blurred(image, blur)
    grain = noise * _normal(seed, (V, 3, H, W)) * (0.4 + image.clamp(0.0, 1.0).sqrt())
    image = (image.clamp(1e-4, 1.0) ** gamma + grain).clamp(0.0, 1.0)
    return (_quantised(image, coarse, steps).clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8)


def _blurred(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with a standard deviation (V, 1, 1, 1) of up to 1.3 pixels: 7 taps each way."""
    H, W = image.shape[-2:]
    weights = [torch.exp(-0.5 * (tap / sigma).square()) for tap in range(4)]
    total = weights[0] + 2 * (weights[1] + weights[2] + weights[3])
    taps = [weights[abs(tap)] / total for tap in range(-3, 4)]
    wide = F.pad(image, (3, 3, 0, 0), mode="replicate")
    image = dot(taps, [wide[..., tap : tap + W] for tap in range(7)])
    high = F.pad(image, (0, 0, 3, 3), mode="replicate")
    return dot(taps, [high[..., tap : tap + H, :] for tap in range(7)])


def _normal(seed: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Standard normal numbers by the views' ``seed`` (V,) int32: Wang's hash of it and the place, then Box-Muller."""
    _, C, H, W = shape
    place = torch.arange(C * H * W, device=seed.device, dtype=torch.int32).view(1, C, H, W)
    first = _hash(place + _hash(seed.view(-1, 1, 1, 1)))
    second = _hash(first + 1013904223)
    radius = (-2.0 * ((first & 0xFFFFFF).float() * 2.0**-24 + 2.0**-25).log()).sqrt()
    return radius * torch.cos((second & 0xFFFFFF).float() * (2.0**-24 * 2 * math.pi))


def _hash(x: Tensor) -> Tensor:
    x = (x ^ 61) ^ ((x >> 16) & 0xFFFF)
    x = x * 9
    x = x ^ ((x >> 4) & 0xFFFFFFF)
    x = x * 0x27D4EB2D
    return x ^ ((x >> 15) & 0x1FFFF)


def _quantised(image: Tensor, coarse: Tensor, steps: Tensor) -> Tensor:
    """Cosine transform of 8 x 8 blocks, rounded to ``coarse`` (V, 1, 1, 1) times the standard's steps, and back."""
    H, W = image.shape[-2:]
    padded = F.pad(image, (0, -W % 8, 0, -H % 8), mode="replicate") if H % 8 or W % 8 else image
    blocks = padded.unflatten(-1, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)  # (V, C, rows, columns, 8, 8)
    basis = _cosines(image.device)
    steps = steps.view(8, 8) / 255.0 * coarse.view(-1, 1, 1, 1, 1, 1).clamp(min=1e-3)
    # Both sides by products from the right, which are one matrix product over all blocks.
    coefficients = ((blocks @ basis.T).mT @ basis.T).mT
    blocks = (((steps * torch.round(coefficients / steps)) @ basis).mT @ basis).mT
    out = blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3)[..., :H, :W]
    return torch.where(coarse > 0, out, image)


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal cosine basis (8, 8): rows are frequencies."""
    frequency = torch.arange(8, device=device).view(8, 1)
    basis = torch.cos((torch.arange(8, device=device) + 0.5) * frequency * (math.pi / 8))
    return basis * torch.where(frequency == 0, math.sqrt(1 / 8), 0.5)
