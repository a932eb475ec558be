"""Seeded random weights, for tests and for running the machinery where no checkpoint is at hand.

Every parameter is drawn so that it counts: norms, biases, layer scales, position embedding and tokens are away
from their neutral values, while activations stay of order one and cameras keep a sensible field of view.
"""

import torch
from torch import Tensor, nn

_SEED = 0


def draw(name: str, shape: torch.Size, owner: nn.Module, generator: torch.Generator) -> Tensor:
    """A random fp32 value on the CPU for the parameter ``name`` of ``shape`` in module ``owner``."""
    noise = torch.randn(shape, generator=generator)
    leaf = name.rpartition(".")[2]
    if leaf == "gamma":
        return 0.3 + 0.1 * noise
    if isinstance(owner, nn.LayerNorm):
        return (1.0 if leaf == "weight" else 0.0) + 0.2 * noise
    if name.endswith("fc_fov.0.bias"):
        return 1.0 + 0.1 * noise            # radians
    if name.endswith("fc_fov.0.weight"):
        return 0.1 * noise / shape[1] ** 0.5
    if isinstance(owner, nn.ConvTranspose2d) and leaf == "weight":
        return noise / shape[0] ** 0.5
    if isinstance(owner, (nn.Linear, nn.Conv2d)) and leaf == "weight":
        return noise / shape[1:].numel() ** 0.5
    return 0.3 * noise                      # biases, tokens, position embedding


def make_generator() -> torch.Generator:
    """The generator that all random weights come from; the same on every device."""
    return torch.Generator().manual_seed(_SEED)
