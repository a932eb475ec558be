"""Weights from which training begins where no checkpoint is given."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from da3_ros.model.layout import build
from da3_ros.model.network import DepthAnything3
from da3_ros.model.output_stack import OutputConv
from da3_ros.model.variants import POS_GRID, Variant

_STD = 0.02                     # of linear layers and tokens, as is usual for vision transformers
_SMALL = 0.1                    # factor on convolutions that begin small
_MEAN_FOV = (0.95, 1.2)         # radians, vertical and horizontal: where the fields of view begin
_LOWEST, _HIGHEST = 1.0, 100.0  # wavelengths of the position embedding, as angles per grid cell


def initial_network(variant: Variant, seed: int, device: torch.device) -> DepthAnything3:
    """An any-view network with seeded weights, fp32, that predicts depth 1, no motion and a usual field of view."""
    model = build(variant).to_empty(device="cpu")
    assert isinstance(model, DepthAnything3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            owner = model.get_submodule(name.rpartition(".")[0])
            parameter.copy_(_draw(name, parameter.shape, owner, generator))
    return model.to(device)


def _draw(name: str, shape: torch.Size, owner: nn.Module, generator: torch.Generator) -> Tensor:
    leaf = name.rpartition(".")[2]
    noise = torch.randn(shape, generator=generator)
    if name.endswith("pos_embed"):
        return _position_embedding(shape[-1])
    if leaf == "gamma" or (isinstance(owner, nn.LayerNorm) and leaf == "weight"):
        return torch.ones(shape)
    if name.endswith("fc_fov.0.bias"):
        return torch.tensor(_MEAN_FOV)
    if name.endswith("fc_qvec.bias"):
        return torch.tensor([0.0, 0.0, 0.0, 1.0])
    if leaf == "bias":
        return torch.zeros(shape)
    if isinstance(owner, nn.ConvTranspose2d):
        return noise / math.sqrt(shape[0])
    if isinstance(owner, nn.Conv2d):
        # Variance is kept from layer to layer, so residual branches and the last layers begin small: what comes out
        # is about depth 1 with little confidence, wherever training begins.
        small = (".resConfUnit" in name and ".conv2." in name) or isinstance(owner, OutputConv)
        return noise * ((_SMALL if small else 1.0) / math.sqrt(shape[1:].numel()))
    if name.startswith("cam_dec.backbone."):
        # Kept alive through its ReLUs; features come with a magnitude of about ten and go on with one.
        return noise * math.sqrt(2 / shape[-1]) * (_SMALL if name.startswith("cam_dec.backbone.0.") else 1.0)
    return noise * _STD         # linear layers and tokens


def _position_embedding(dim: int) -> Tensor:
    """(1, 1 + POS_GRID^2, D): sines and cosines of row and column, small, so that any grid size is interpolated
    smoothly from the start; zero for the special token."""
    quarter = dim // 4
    wavelength = _LOWEST * (_HIGHEST / _LOWEST) ** (torch.arange(quarter) / quarter)
    angle = torch.arange(POS_GRID)[:, None] / wavelength                    # (37, D/4)
    waves = torch.cat([angle.sin(), angle.cos()], dim=-1)                   # (37, D/2)
    rows = waves[:, None].expand(-1, POS_GRID, -1)
    columns = waves[None].expand(POS_GRID, -1, -1)
    grid = torch.cat([rows, columns], dim=-1).flatten(0, 1)
    return torch.cat([torch.zeros(1, dim), grid * 0.1])[None]
