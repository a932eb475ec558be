"""Thin networks, frame sets and streams for the tests of da3_ros.streaming."""

from dataclasses import replace

import numpy as np
import torch

from da3_ros.datatypes import Frame, FrameSet
from da3_ros.model import VARIANTS
from da3_ros.model.weights import build, fill_random
from da3_ros.streaming import StreamingDA3, WindowConfig

STEP_NS = 100_000_000
CAMERAS = ("left", "right")


SMALL_HEAD = {"features": 16, "out_channels": (8, 8, 16, 16)}


def make_model(name, dtype=torch.float32):
    """The structure of a variant (order and roles of its layers), thin enough for a test."""
    variant = VARIANTS[name]
    metric = variant.metric and replace(variant.metric, dim=64, **SMALL_HEAD)
    variant = replace(variant, dim=64, gaussians=False, metric=metric, **SMALL_HEAD)
    network = build(variant)
    fill_random(network, torch.device("cpu"), dtype)
    return network.eval().requires_grad_(False)


def make_set(rng, step, cameras=CAMERAS, size=(48, 64), calibration=None):
    frames = tuple(
        Frame(name, step * STEP_NS, rng.integers(0, 256, (*size, 3), dtype=np.uint8), calibration=calibration)
        for name in cameras
    )
    return FrameSet(step * STEP_NS, frames)


def make_stream(model, **settings):
    return StreamingDA3(model, WindowConfig(**{"sets": 3, "cameras": 2, "process_res": 56, **settings}))


def window_images(stream, history):
    """Network images (1, N, 3, H, W) of the sets in ``history``, prepared afresh."""
    images = [stream.prepare(frame_set)[0] for frame_set in history]
    return torch.cat(images)[None]
