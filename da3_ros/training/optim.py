"""Optimiser, learning-rate schedule and the running mean of the weights. Nothing here waits for the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from da3_ros.training.muon import Muon

_BETAS = (0.9, 0.95)
_EMBEDDINGS = ("pos_embed", "cls_token", "camera_token")
_LAYERS = ("backbone.pretrained.blocks.", "cam_enc.trunk.")
# The camera decoder is plain layers with ReLU on features that are not normalised (their magnitude is about 10 over
# hundreds of channels): at the rate of the rest all its units die within the first steps, and never learn again. AdamW
# moves each weight alike, so that what all features have in common shifts all cameras by more than most of them differ;
# Muon bounds what a step does to a layer's output.
_CAMERA, _CAMERA_LAYERS = "cam_dec.", "cam_dec.backbone."
_CAMERA_PACE, _CAMERA_LAYERS_PACE = 0.05, 0.25


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


def make_optimizers(network: nn.Module, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of transformer layers and of those of the camera decoder, fused AdamW for all else.

    Weight decay is for matrices and kernels only; the camera decoder is slower. Learning rates are tensors, so that
    changing one neither recompiles nor waits.
    """
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name.rpartition(".")[2] not in _EMBEDDINGS
            turned = parameter.ndim == 2 and any(part in name for part in (*_LAYERS, _CAMERA_LAYERS))
            pace = _CAMERA_PACE if name.startswith(_CAMERA) else 1.0
            if turned and name.startswith(_CAMERA_LAYERS):
                pace = _CAMERA_LAYERS_PACE
            groups.setdefault((turned, weight_decay if decays else 0.0, pace), []).append(parameter)

    def settings(muon: bool) -> list[dict]:
        return [
            {"params": them, "weight_decay": decay, "pace": pace, "lr": torch.zeros((), device=them[0].device)}
            for (turned, decay, pace), them in groups.items()
            if turned == muon
        ]

    optimizers: list[torch.optim.Optimizer] = []
    if settings(False):
        optimizers.append(torch.optim.AdamW(settings(False), betas=_BETAS, fused=True))
    if settings(True):
        optimizers.append(Muon(settings(True)))
    return optimizers


class Stepper:
    """Holds the gradients, as parts of one tensor, and applies them: clipped to a norm, left out altogether where that
    is not finite."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer], clip: float):
        self.optimizers = list(optimizers)
        self.clip = clip
        parameters = [p for one in self.optimizers for group in one.param_groups for p in group["params"]]
        self.gradient = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
        begin = 0
        for p in parameters:    # in the memory order of the parameter, as the fused optimiser wants it
            p.grad = self.gradient.as_strided(p.shape, p.stride(), begin)
            begin += p.numel()

    def step(self, rate: float) -> Tensor:
        """One update with learning rate ``rate``; the gradients' norm before clipping, a scalar on the device.

        The gradients are zero afterwards.
        """
        norm = torch.linalg.vector_norm(self.gradient)
        broken = ~norm.isfinite()
        self.gradient.mul_(1.0 / (norm / self.clip).clamp(min=1.0)).masked_fill_(broken, 0.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"].fill_(rate * group["pace"])
            # The kernels skip the update where this is not zero, as loss scaling needs it; here it keeps a broken
            # batch from the weights.
            optimizer.found_inf = broken.float()  # type: ignore[attr-defined]
            optimizer.step()
        self.gradient.zero_()
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
