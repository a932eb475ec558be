"""A tiny network, a tiny run and scenes whose depth is known by hand, for the tests of da3_ros.training."""

import torch

from da3_ros.model import Variant
from da3_ros.training.batch import SceneBatch
from da3_ros.training.config import RunConfig, Shape

TINY = Variant("tiny", 64, 6, (2, 3, 4, 5), 2, 16, (8, 8, 8, 8), ("nobody/TINY",), "Apache-2.0")


def tiny_run(**settings):
    """A run of a few seconds on a CPU."""
    base = {
        "variant": "tiny", "steps": 6, "shapes": (Shape(2, 28, 42, 2), Shape(1, 42, 28, 3)), "warmup": 2,
        "bf16": False, "compile": False, "log_every": 2, "checkpoint_every": 3, "posed": 0.5, "learning_rate": 1e-3,
    }  # fmt: skip
    return RunConfig(**{**base, **settings})


def walls(seeds, views, size):
    """A Source: fronto-parallel walls, cameras that stand side by side; colour tells the distance."""
    height, width = size
    batch = len(seeds)
    distance = 1 + 3 * (seeds.double() * 0.6180339887).frac().float()
    depth = distance.view(-1, 1, 1, 1).expand(batch, views, height, width).contiguous()
    shade = (1 / distance).view(-1, 1, 1, 1, 1).expand(batch, views, 3, height, width)
    ramp = torch.linspace(0, 0.3, width, device=seeds.device)
    K = torch.eye(3, device=seeds.device).repeat(batch, views, 1, 1)
    K[..., 0, 0], K[..., 1, 1], K[..., 0, 2], K[..., 1, 2] = 0.8 * width, 0.8 * width, width / 2, height / 2
    T_cam_world = torch.eye(4, device=seeds.device).repeat(batch, views, 1, 1)
    T_cam_world[..., 0, 3] = -0.3 * torch.arange(views, device=seeds.device)
    known = torch.ones_like(depth, dtype=torch.bool)
    return SceneBatch((shade + ramp).clamp(0, 1), depth, known, ~known, K, T_cam_world)
