"""Pictures and exact depth of V views, in chunks, compiled into few kernels on CUDA."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from da3_ros.training.scenes.atlas import Atlas
from da3_ros.training.worlds.casting import in_shadow, resolved, seen
from da3_ros.training.worlds.chunks import divided
from da3_ros.training.worlds.shading import shade, softened
from da3_ros.training.worlds.tables import ViewTables

_PIXELS_AT_ONCE = {"compiled": 1 << 24, "cuda": 1 << 22, "cpu": 1 << 14}  # the CPU makes every (pixels x solids) tensor


@dataclass(frozen=True)
class Views:
    """``colour`` (V, 3, H, W) linear display colour 0..1; ``depth`` (V, H, W) z-depth; ``sky`` (V, H, W) bool."""

    colour: Tensor
    depth: Tensor
    sky: Tensor


def render(tables: ViewTables, atlas: Atlas, size: tuple[int, int], compiled: bool) -> Views:
    """All views, in pictures of ``size`` (H, W). ``compiled``: through torch.compile."""
    views = len(tables.eye)
    most = _PIXELS_AT_ONCE["compiled" if compiled else tables.eye.device.type]
    at_once = divided(views, most // (size[0] * size[1]))
    parts = [
        _render_chunk(tables[start : start + at_once], atlas, size, stage if compiled else _plain)
        for start in range(0, views, at_once)
    ]
    return Views(*(torch.cat(column) for column in zip(*parts, strict=True)))


@lru_cache(maxsize=8)
def stage(function: Callable) -> Callable:
    """``function`` compiled; each stage on its own, so that none is computed again within another."""
    return torch.compile(function, dynamic=False)


def _plain(function: Callable) -> Callable:
    return function


def _render_chunk(
    tables: ViewTables, atlas: Atlas, size: tuple[int, int], made: Callable[[Callable], Callable]
) -> tuple[Tensor, Tensor, Tensor]:
    hits = made(resolved)(tables, seen(tables, *size), *size)
    shadow = in_shadow(tables, hits.point)
    colour = made(shade)(tables, atlas, hits, shadow, *size)
    shape = (-1, *size)
    return made(softened)(colour, hits.solid.view(shape)), hits.depth.view(shape), ~hits.hit.view(shape)
