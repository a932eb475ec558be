"""Where a run's scenes come from."""

from __future__ import annotations

import torch

from da3_ros.training.data import Source
from da3_ros.training.worlds import SceneSource


def make_source(device: torch.device, *, compiled: bool) -> Source:
    """Rendered scenes on ``device``; ``compiled``, where that is CUDA, three times as fast, but not at once."""
    return SceneSource(device, compiled=compiled and device.type == "cuda")
