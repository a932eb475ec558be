"""Where a run's scenes come from."""

from __future__ import annotations

import torch

from da3_ros.training.data import Source
from da3_ros.training.worlds import SceneSource


def make_source(device: torch.device, *, compiled: bool, textures: str = "") -> Source:
    """Rendered scenes on ``device``; ``compiled``, where that is CUDA, three times as fast, but not at once.

    ``textures`` as of ``SceneSource``, which raises ConfigError where they are not there.
    """
    return SceneSource(device, compiled=compiled and device.type == "cuda", textures=textures)
