"""The stages of the network by themselves, their images being on the device already."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.config import RANDOM_CHECKPOINT
from da3_ros.model import DepthAnything3, load_model


@dataclass(frozen=True)
class StageRow:
    """Median milliseconds of the network's stages, eager, for ``new`` of ``views`` views."""

    variant: str
    views: int
    new: int
    height: int
    width: int
    dtype: str
    forward: float  # model() on all views, all of them decoded
    encode: float  # new views up to the first cross-view layer
    mix: float  # all views from there on
    decode: float  # depth and confidence of the new views
    cameras: float  # poses and intrinsics of all views


@torch.inference_mode()
def measure_stages(
    variant: str,
    views: int,
    new: int,
    size_hw: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    repeats: Repeats,
) -> StageRow:
    """Time the stages with random weights on random images of ``size_hw``."""
    model = load_model(variant, RANDOM_CHECKPOINT, device=device, dtype=dtype)
    assert isinstance(model, DepthAnything3)
    images = torch.rand((1, views, 3, *size_hw), device=device)
    model.prepare(*size_hw)
    state = model.encode_views(images)
    tokens = model.role_tokens(model.select_reference(state), views)
    features = model.mix_views(state, tokens)
    newest = features.views(slice(views - new, None))
    stages = {
        "forward": lambda: model(images),
        "encode": lambda: model.encode_views(images[:, :new]),
        "mix": lambda: model.mix_views(state, tokens),
        "decode": lambda: model.decode_dense(newest),
        "cameras": lambda: model.decode_cameras(features),
    }
    times = {name: median_ms(stage, device, repeats) for name, stage in stages.items()}
    height, width = size_hw
    return StageRow(variant, views, new, height, width, str(dtype).removeprefix("torch."), **times)
