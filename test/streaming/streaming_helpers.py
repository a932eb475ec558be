"""Thin networks, frame sets and streams for the tests of da3_ros.streaming."""

from dataclasses import replace

import numpy as np
import torch

from da3_ros.datatypes import Frame, FrameSet
from da3_ros.model import VARIANTS, network
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


def record_ray_cameras(monkeypatch):
    """A list that grows by rays, confidence, extrinsics and K whenever cameras are solved from ray maps.

    The solver picks the best of many samples and magnifies what is left of rounding. The rays of these tests' windows
    differ by at most 2.5e-6 of the largest between the step and the whole network; the poses made of them by up to
    3.1e-4, and rays changed by one rounding made another sample win in one of 900 cases. From the same rays it gives
    the same bits. So what goes into it is compared, and what it makes of that on either side is not.
    """
    solved, solve = [], network.cameras_from_rays

    def recorded(rays, confidence, *rest):
        cameras = solve(rays, confidence, *rest)
        solved.append((rays, confidence, *cameras))
        return cameras

    monkeypatch.setattr(network, "cameras_from_rays", recorded)
    return solved


def assert_same_rays(found, expected):
    """Two records of ``record_ray_cameras`` were solved from the same rays, of the same confidence."""
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
