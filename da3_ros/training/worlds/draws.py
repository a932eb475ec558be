"""Random numbers that depend on a sample's own seed alone: not on the batch that it is drawn in, nor on the device."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

_STEP = -7046029254386353131  # the golden ratio's 64 bits, as splitmix64 steps by
_MIX = (-4658895280553007687, -7723592293110705685)


def hashed(seeds: Tensor, count: int) -> Tensor:
    """Uniform numbers (B, count) in [0, 1), float32, from ``seeds`` (B,) int64: splitmix64 of seed and place."""
    place = torch.arange(1, count + 1, device=seeds.device) * _STEP
    state = _mixed(seeds * _STEP).unsqueeze(1) + place
    return (_shifted(_mixed(state), 40)).float() * 2.0**-24


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _MIX[0]
    x = (x ^ _shifted(x, 27)) * _MIX[1]
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; that of int64 tensors copies the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


@lru_cache(maxsize=512)
def constant(values: Any, device: torch.device) -> Tensor:
    """``values`` (nested tuples) as a tensor that is copied to ``device`` once: a copy makes the host wait for it."""
    return torch.tensor(values, device=device)


class Draws:
    """Hands out the numbers of B samples one after the other; every draw is (B, *shape)."""

    def __init__(self, seeds: Tensor, count: int):
        self.samples = len(seeds)
        self.device = seeds.device
        self._table = hashed(seeds, count)
        self._next = 0

    def unit(self, *shape: int) -> Tensor:
        """Uniform in [0, 1)."""
        count = 1
        for extent in shape:
            count *= extent
        start, self._next = self._next, self._next + count
        if self._next > self._table.shape[1]:
            raise IndexError(f"a scene draws more than {self._table.shape[1]} numbers: make the table longer")
        return self._table[:, start : self._next].reshape(self.samples, *shape)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform between ``low`` and ``high``."""
        return low + (high - low) * self.unit(*shape)

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Between ``low`` and ``high`` (> 0), every factor as likely."""
        return low * (high / low) ** self.unit(*shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        radius = (-2.0 * (1.0 - self.unit(*shape)).log()).sqrt()
        return radius * (2 * torch.pi * self.unit(*shape)).cos()

    def chance(self, probability: float, *shape: int) -> Tensor:
        """True with ``probability``."""
        return self.unit(*shape) < probability

    def one_of(self, options: tuple[float, ...], *shape: int) -> Tensor:
        """One of the ``options`` each."""
        table = constant(options, self.device)
        return table[(self.unit(*shape) * len(table)).long()]
