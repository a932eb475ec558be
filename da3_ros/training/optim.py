"""Optimiser, learning-rate schedule and the running mean of the weights. Nothing here waits for the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.95)
_EMBEDDINGS = ("pos_embed", "cls_token", "camera_token")
# The camera decoder is plain layers with ReLU on features that are not normalised (their magnitude is about 10 over
# hundreds of channels): at the rate of the rest all its units die within the first steps, and never learn again.
_CAMERA_PACE = 0.05


@dataclass(frozen=True)
class Schedule:
    """Learning rate as a function of the step: linear warm-up, constant, then half a cosine down to nearly zero.

    A constant middle suits training in pieces: a run may go on from the weights of another one after a short
    warm-up, and only the last piece needs the descent. With ``decay_start`` at the end of the warm-up it is the
    usual cosine schedule.
    """

    peak: float
    warmup: int         # steps
    decay_start: int    # step
    steps: int          # at which it ends
    final: float = 0.01     # of the peak

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if step < self.decay_start:
            return self.peak
        done = min(1.0, (step - self.decay_start) / max(1, self.steps - self.decay_start))
        return self.peak * (self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2)


def make_optimizer(network: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """Fused AdamW over the parameters that learn; weight decay on matrices and kernels only, a slower camera decoder.

    The learning rate is a tensor, so that changing it neither recompiles nor waits.
    """
    learning = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in learning:
        decays = parameter.ndim > 1 and name.rpartition(".")[2] not in _EMBEDDINGS
        pace = _CAMERA_PACE if name.startswith("cam_dec.") else 1.0
        groups.setdefault((weight_decay if decays else 0.0, pace), []).append(parameter)
    settings = [
        {"params": parameters, "weight_decay": decay, "pace": pace, "lr": torch.zeros((), device=parameters[0].device)}
        for (decay, pace), parameters in groups.items()
    ]
    return torch.optim.AdamW(settings, betas=_BETAS, fused=True)


class Stepper:
    """Applies gradients: clipped to a norm, left out altogether where that is not finite."""

    def __init__(self, optimizer: torch.optim.AdamW, clip: float):
        self.optimizer = optimizer
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.clip = clip

    def step(self, rate: float) -> Tensor:
        """One update with learning rate ``rate``; the gradients' norm before clipping, a scalar on the device."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        for group in self.optimizer.param_groups:
            group["lr"].fill_(rate * group["pace"])
        # The fused kernel divides gradients by one tensor and skips the update where another is not zero, as loss
        # scaling needs it; here these clip, and keep a broken batch from the weights.
        self.optimizer.grad_scale = (norm / self.clip).clamp(min=1.0)  # type: ignore[attr-defined]
        self.optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm


class RunningMean:
    """Exponential moving average of a network's weights, fp32."""

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self._live = dict(network.named_parameters())
        self.weights: Mapping[str, Tensor] = {name: value.detach().clone() for name, value in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after ``step`` (0-based); early on the mean is over few steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.weights.values()), [p.detach() for p in self._live.values()], 1 - decay)
