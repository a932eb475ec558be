"""The reference package, timed beside ours where it is installed: its bare forward and its whole call."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass

import numpy as np
import torch

from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.errors import ConfigError


@dataclass(frozen=True)
class ReferenceTimes:
    """Median milliseconds; None where it was not run."""

    forward_ms: float | None = None
    call_ms: float | None = None


def require_reference() -> None:
    """Raise ConfigError where the package is not installed."""
    if importlib.util.find_spec("depth_anything_3") is None:
        raise ConfigError("--reference needs the package depth-anything-3, which is not installed here")


class Reference:
    """depth-anything-3 with random weights, as its own API runs it (autocast on CUDA)."""

    def __init__(self, variant: str, device: torch.device):
        os.environ.setdefault("DA3_LOG_LEVEL", "ERROR")
        logging.getLogger("depth_anything_3").setLevel(logging.ERROR)
        try:
            from depth_anything_3.api import DepthAnything3
        except ImportError as error:
            raise ConfigError(f"--reference: depth-anything-3 needs the package {error.name}: install it") from error
        self.variant = variant
        self._device = device
        self._model = DepthAnything3(model_name=variant).to(device).eval()
        self._model.device = device

    @torch.inference_mode()
    def forward_ms(self, views: int, size_hw: tuple[int, int], repeats: Repeats) -> float:
        """Median time of the bare forward of ``views`` images of ``size_hw`` that are on the device already."""
        images = torch.rand((1, views, 3, *size_hw), device=self._device)
        return median_ms(lambda: self._model.forward(images, export_feat_layers=[]), self._device, repeats)

    @torch.inference_mode()
    def call_ms(self, views: int, image_hw: tuple[int, int], process_res: int, repeats: Repeats) -> float:
        """Median time of ``inference()`` from ``views`` uint8 arrays of ``image_hw`` on the host."""
        pictures = list(np.random.default_rng(0).integers(0, 256, (views, *image_hw, 3), dtype=np.uint8))
        return median_ms(lambda: self._model.inference(pictures, process_res=process_res), self._device, repeats)
