"""The reference package, timed beside ours where it is installed: its bare forward and its whole call."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import numpy as np
import torch

from da3_ros.cli.bench_timing import Repeats, median_ms


@dataclass(frozen=True)
class ReferenceTimes:
    """Median milliseconds; None where it was not run."""

    forward_ms: float | None = None
    call_ms: float | None = None


def time_reference(
    variant: str,
    views: int,
    size_hw: tuple[int, int],
    image_hw: tuple[int, int],
    process_res: int,
    device: torch.device,
    repeats: Repeats,
) -> ReferenceTimes:
    """Time depth-anything-3 with random weights on ``views`` views, as its own API runs it (autocast on CUDA).

    The forward has its images on the device already; the call starts from uint8 arrays on the host.
    """
    os.environ.setdefault("DA3_LOG_LEVEL", "ERROR")
    logging.getLogger("depth_anything_3").setLevel(logging.ERROR)
    from depth_anything_3.api import DepthAnything3

    reference = DepthAnything3(model_name=variant).to(device).eval()
    reference.device = device
    images = torch.rand((1, views, 3, *size_hw), device=device)
    pictures = list(np.random.default_rng(0).integers(0, 256, (views, *image_hw, 3), dtype=np.uint8))
    with torch.inference_mode():
        return ReferenceTimes(
            median_ms(lambda: reference.forward(images, export_feat_layers=[]), device, repeats),
            median_ms(lambda: reference.inference(pictures, process_res=process_res), device, repeats),
        )
