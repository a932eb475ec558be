"""Views that 3D Gaussians were not made of, drawn and compared with the real pictures: PSNR and SSIM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from da3_ros.config import RANDOM_CHECKPOINT, Config
from da3_ros.errors import InputError
from da3_ros.evaluation.gaussian_bag import read_bag
from da3_ros.evaluation.gaussian_scene import Pruning, Scene, Window, held_out_views, make_window, reconstruct
from da3_ros.evaluation.images import psnr, ssim
from da3_ros.model import VARIANTS, DepthAnything3, load_model
from da3_ros.rendering import find_rasterizer, render
from da3_ros.replay.estimates import resolve
from da3_ros.streaming.device import choose_device, choose_dtype

PROTOCOL = (
    "held-out views were in the window, so their cameras are predicted and the other views' depth knows of them; "
    "their own Gaussians are left out"
)
_VARIANT = "da3-giant"
_ONE_IN = 4  # views are held out


def check_novel_views(config: Config, views: int) -> None:
    """Raise, before any work, what keeps ``score_novel_views`` from working.

    InputError for a network without Gaussians, too few views or a device that is not CUDA; UnavailableError where
    gsplat is missing.
    """
    if config.model.variant != _VARIANT:
        raise InputError(f"--novel-views needs 3D Gaussians, which {_VARIANT} has and {config.model.variant} has not")
    if views < 2:
        raise InputError(f"--novel-views is {views}, but at least two views are needed: one is held out")
    find_rasterizer()
    device = choose_device(config.model.device)
    if device.type != "cuda":
        raise InputError(f"--novel-views needs the network on a CUDA device, not on {device}")


def score_novel_views(paths: Sequence[Path], config: Config, namespace: str, views: int) -> dict[str, Any]:
    """Means over the held-out views (one in four of ``views`` pictures at even distances from the recording, ``paths``
    together), and over those that the Gaussians are made of."""
    device = choose_device(config.model.device)
    topics = [resolve(config.image_topic(camera), namespace) for camera in config.cameras]
    window = make_window(read_bag(paths, topics, 0.0, None, views), config.model.process_res, device)
    held_out = held_out_views(len(window.names), max(1, len(window.names) // _ONE_IN))
    named = config.model.checkpoint or VARIANTS[_VARIANT].hub[0]
    checkpoint = None if named == RANDOM_CHECKPOINT else named
    model = load_model(
        _VARIANT,
        checkpoint,
        device,
        choose_dtype(config.model.dtype, device),
        accept_noncommercial=config.model.accept_noncommercial,
    )
    assert isinstance(model, DepthAnything3)
    scene = reconstruct(model, window, held_out, Pruning(), config.model.use_ray_pose)
    psnrs, ssims = view_quality(draw_views(scene, window), window)
    kept = [view for view in range(len(window.names)) if view not in held_out]
    return {
        "views": len(window.names),
        "held_out": len(held_out),
        "psnr": _mean(psnrs, held_out),
        "ssim": _mean(ssims, held_out),
        "kept_psnr": _mean(psnrs, kept),
        "kept_ssim": _mean(ssims, kept),
        "protocol": PROTOCOL,
    }


def draw_views(scene: Scene, window: Window) -> list[torch.Tensor]:
    """The Gaussians of ``scene`` from the camera of every view, (3, H, W) each."""
    return [
        render(scene.cloud, pose[None], K[None], window.size).images[0]
        for pose, K in zip(scene.extrinsics, scene.intrinsics, strict=True)
    ]


def view_quality(drawn: list[torch.Tensor], window: Window) -> tuple[list[float], list[float]]:
    """PSNR (dB) and SSIM of each drawn view against the picture, where there is one and no padding."""
    found_psnr = psnr(torch.stack(drawn), window.colours, window.content).tolist()
    found_ssim = []
    for view, image in enumerate(drawn):
        # The content is a rectangle.
        rows, columns = (torch.nonzero(window.content[view].any(dim=axis))[:, 0] for axis in (1, 0))
        inside = (..., slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
        found_ssim.append(float(ssim(image[inside][None], window.colours[view][inside][None])[0]))
    return found_psnr, found_ssim


def _mean(values: list[float], views: list[int]) -> float:
    return float(np.mean([values[view] for view in views]))
