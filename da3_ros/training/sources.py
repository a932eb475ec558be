"""Where a run's scenes come from."""

from __future__ import annotations

import torch

from da3_ros.training.data import Source
from da3_ros.training.worlds import SceneSource


def make_source(device: torch.device) -> Source:
    """Rendered scenes on ``device``. The renderer is not compiled: that takes half a minute for every kind of batch."""
    return SceneSource(device, compiled=False)
