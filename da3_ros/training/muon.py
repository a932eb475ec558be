"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al., 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_MOMENTUM = 0.95
_ITERATIONS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)   # of Newton-Schulz: steepest at zero, singular values end in about 0.7..1.2
_RMS = 0.2      # of an update's entries at rate 1: that of AdamW's, so that both take the same learning rate


class Muon(torch.optim.Optimizer):
    """For matrices only. As torch.optim.Muon with ``match_rms_adamw``, but all matrices of one shape at once, and with
    the learning rate a tensor: hundreds of small kernels fewer, and nothing for the host to wait for.

    ``found_inf``, a scalar tensor, keeps the weights as they are where it is not zero.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Iterable[dict[str, Any]]):
        super().__init__(params, {"lr": 0.0, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update from the gradients that the parameters have."""
        for group in self.param_groups:
            rate = group["lr"] if self.found_inf is None else group["lr"] * (1.0 - self.found_inf)
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                by_shape.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                gradients = [p.grad for p in parameters if p.grad is not None]
                momenta = [self._momentum(p) for p in parameters]
                torch._foreach_lerp_(momenta, gradients, 1.0 - _MOMENTUM)
                ahead = torch._foreach_lerp(gradients, momenta, _MOMENTUM)      # Nesterov's
                updates = orthogonal(torch.stack(ahead)) * (rate * _RMS * math.sqrt(max(shape)))
                torch._foreach_mul_(parameters, 1.0 - rate * group["weight_decay"])
                torch._foreach_sub_(parameters, list(updates.to(parameters[0].dtype).unbind()))

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        return state["momentum"]


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices (n, rows, columns) with their singular values near one, by Newton-Schulz iterations.

    Bfloat16, except on a CPU, most of which multiply it many times slower than float32.
    """
    a, b, c = _COEFFICIENTS
    x = matrices.float() if matrices.device.type == "cpu" else matrices.bfloat16()
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT
