"""A look at one sample for TensorBoard."""

from __future__ import annotations

import torch
from torch import Tensor

from da3_ros.training.batch import SceneBatch
from da3_ros.training.losses import Answer


def contact_sheet(batch: SceneBatch, answer: Answer) -> Tensor:
    """The first sample: a row for each view with image, true depth, predicted depth, confidence; (3, N H, 4 W).

    Depths are drawn as nearness, bright where near, each on its own scale.
    """
    images = batch.images[0].float() / (255.0 if batch.images.dtype == torch.uint8 else 1.0)
    known = batch.valid[0]
    true = torch.where(known, batch.depth[0], torch.inf)
    grey = [_nearness(true), _nearness(answer.depth[: len(images)]), 1 - 1 / answer.depth_conf[: len(images)]]
    columns = [images, *(one[:, None].expand(-1, 3, -1, -1) for one in grey)]
    return torch.cat(columns, dim=-1).transpose(0, 1).flatten(1, 2).clamp(0, 1)


def _nearness(depth: Tensor) -> Tensor:
    """Inverse depth (N, H, W), 1 at its 98th percentile over all views."""
    inverse = 1 / depth.clamp(min=1e-3)
    return inverse / inverse.flatten().kthvalue(max(1, int(0.98 * inverse.numel()))).values.clamp(min=1e-6)
