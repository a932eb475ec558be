"""Which samples a step sees: a function of the run's seed, the step and the process, and of nothing else."""

from __future__ import annotations

import random
from typing import Protocol

import torch
from torch import Tensor

from da3_ros.training.batch import SceneBatch
from da3_ros.training.config import MOST_SAMPLES, MOST_STEPS, RunConfig, Shape

FIRST_TRAINING_SEED = 1 << 40       # seeds below it are never trained on: evaluation takes its scenes from there
_RANKS = 64                         # most processes of a run


class Source(Protocol):
    """Where scenes come from."""

    def __call__(self, seeds: Tensor, views: int, size: tuple[int, int]) -> SceneBatch:
        """Samples of ``views`` pictures of ``size`` (H, W), one for each of ``seeds`` (B,) int64, on their device.

        Equal seeds give equal samples.
        """


def shape_of(config: RunConfig, group: int) -> Shape:
    """The kind of batch of a group of batches, the same on all processes."""
    draw = random.Random(f"{config.seed}:{group}")
    return draw.choices(config.shapes, [shape.share for shape in config.shapes])[0]


def sample_seeds(seed: int, step: int, rank: int, batch: int, device: torch.device) -> Tensor:
    """Seeds (batch,) int64 of the samples of one step on one process; no two of a run are alike, nor of two runs."""
    number = ((seed * MOST_STEPS + step) * _RANKS + rank) * MOST_SAMPLES
    return torch.arange(number, number + batch, device=device) + FIRST_TRAINING_SEED


def draw_decoded(seed: int, step: int, rank: int, shape: Shape, share: float, device: torch.device) -> Tensor:
    """Of which pictures a step makes dense maps: a ``share`` of its batch x views ones, (M,) int64, ascending."""
    pictures = shape.batch * shape.views
    generator = torch.Generator(device).manual_seed(~((seed * MOST_STEPS + step) * _RANKS + rank))
    drawn = torch.rand(pictures, generator=generator, device=device).argsort()[: max(1, round(share * pictures))]
    return drawn.sort().values


def draw_reference(seed: int, step: int, rank: int, shape: Shape, posed: int, device: torch.device) -> Tensor:
    """Reference view (batch,) int64 of each sample: any view is as likely; view 0 of the first ``posed`` samples."""
    generator = torch.Generator(device).manual_seed((seed * MOST_STEPS + step) * _RANKS + rank)
    drawn = torch.randint(shape.views, (shape.batch,), generator=generator, device=device)
    return torch.where(torch.arange(shape.batch, device=device) < posed, 0, drawn)
