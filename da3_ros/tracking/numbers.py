"""Numbers as tensors: one that Python gives to ``torch.where`` is made on the device each time, at a kernel's cost."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor


class Numbers(NamedTuple):
    """Float64 tensors ()."""

    zero: Tensor
    one: Tensor
    infinity: Tensor
    nan: Tensor


@functools.cache
def numbers(device: torch.device) -> Numbers:
    """On ``device``; nobody writes to them."""
    return Numbers(*torch.tensor([0.0, 1.0, torch.inf, torch.nan], dtype=torch.float64, device=device).unbind())
