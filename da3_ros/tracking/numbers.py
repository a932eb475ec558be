"""Numbers as tensors: one that Python gives to ``torch.where`` is made on the device each time, at a kernel's cost."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor


class Numbers(NamedTuple):
    """Float64 tensors (), and float32 ones for values that are: of two kinds one would be converted each time."""

    zero: Tensor
    one: Tensor
    infinity: Tensor
    nan: Tensor
    zero32: Tensor
    one32: Tensor
    eye: Tensor  # (4, 4) float64


@functools.cache
def numbers(device: torch.device) -> Numbers:
    """On ``device``; nobody writes to them."""
    zero, one, infinity, nan = torch.tensor([0.0, 1.0, torch.inf, torch.nan], dtype=torch.float64, device=device)
    zero32, one32 = torch.tensor([0.0, 1.0], dtype=torch.float32, device=device)
    return Numbers(zero, one, infinity, nan, zero32, one32, torch.eye(4, dtype=torch.float64, device=device))
