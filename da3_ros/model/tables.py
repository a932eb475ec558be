"""Positional tables: functions of the image size alone, made once per size in fp32 and kept.

Three kinds: the matrices that resample the learned position embedding to a grid of patches, the rotary tables of
the attention layers, and the sine-cosine embedding of image coordinates that the dense heads add.
"""

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from da3_ros.model.variants import HEAD_DIM, POS_GRID

_ROPE_BASE = 100.0
_UV_BASE = 100.0
_UV_AMPLITUDE = 0.1
_CUBIC = -0.75              # the bicubic kernel's free parameter
_POS_OFFSET = 0.1           # DINOv2 enlarges the target grid by this much before it computes the scale

Tables = TypeVar("Tables")


class TableCache(Generic[Tables]):
    """Keeps the tables of every (height, width, device) that was asked for.

    Inside a traced graph (torch.compile, torch.export) a missing entry is computed in the graph and not stored,
    because a graph may reuse the memory of its intermediate results. Ask once, eagerly, before compiling or
    capturing, and the graph only reads.
    """

    def __init__(self, make: Callable[[int, int, torch.device], Tables]):
        self._make = make
        self._kept: dict[tuple[int, int, str], Tables] = {}

    def get(self, height: int, width: int, device: torch.device) -> Tables:
        """The tables of one size on one device; made now if this is the first request."""
        key = (height, width, str(device))
        if key in self._kept:
            return self._kept[key]
        if torch.compiler.is_compiling():
            return self._make(height, width, device)
        with torch.inference_mode(False):       # so that a later training step may use the same tables
            tables = self._make(height, width, device)
        self._kept[key] = tables
        return tables


def resampling_matrix(size: int, device: torch.device) -> Tensor:
    """Bicubic resampling of the stored position grid to ``size`` patches along one axis, (size, POS_GRID).

    No antialiasing, borders clamped. The source coordinate follows the scale (size + 0.1) / 37 and not
    size / 37, as in the released networks.
    """
    index = torch.arange(size, device=device, dtype=torch.float32)
    source = (index + 0.5) * (POS_GRID / (size + _POS_OFFSET)) - 0.5
    base = source.floor()
    taps = base[:, None] + torch.arange(-1, 3, device=device)               # (size, 4)
    distance = (source[:, None] - taps).abs()
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
    weights = torch.where(distance <= 1, near, far)
    columns = taps.clamp(0, POS_GRID - 1)[..., None] == torch.arange(POS_GRID, device=device)
    return (weights[..., None] * columns).sum(1)


class Rope(NamedTuple):
    """Rotary table for the first ``rows`` tokens of every view; tokens after them are not rotated."""

    cos: Tensor     # (rows, 1, HEAD_DIM)
    sin: Tensor     # (rows, 1, HEAD_DIM), with the sign of the rotate-half form folded in

    def rotate(self, x: Tensor) -> Tensor:
        """Rotates queries or keys (..., T, heads, HEAD_DIM), T tokens of a view; computed in the table's dtype.

        The two halves of the channels carry the row and the column; in each, channel k pairs with channel k + 16.
        """
        rows = self.cos.shape[0]
        head = x[..., :rows, :, :]
        pairs = head.unflatten(-1, (2, 2, HEAD_DIM // 4))
        swapped = pairs.flip(-2).flatten(-3)
        rotated = head * self.cos + swapped * self.sin
        if rows == x.shape[-3]:
            return rotated
        return torch.cat([rotated, x[..., rows:, :, :].to(rotated.dtype)], dim=-3)


def _rope(rows: Tensor, columns: Tensor) -> Rope:
    """Rotary table of tokens at (row, column), each (T,)."""
    quarter = HEAD_DIM // 4
    exponent = torch.arange(quarter, device=rows.device, dtype=torch.float32) / quarter
    frequency = _ROPE_BASE**-exponent                                        # (16,)
    angle = torch.stack([rows, columns], dim=1)[..., None] * frequency       # (T, 2, 16)
    cos = torch.cat([angle.cos(), angle.cos()], dim=-1)                      # (T, 2, 32)
    sin = torch.cat([-angle.sin(), angle.sin()], dim=-1)
    return Rope(cos.flatten(1)[:, None], sin.flatten(1)[:, None])


class BackboneTables(NamedTuple):
    """Tables of the backbone for one grid of h x w patches."""

    pos_rows: Tensor        # (h, POS_GRID)
    pos_columns: Tensor     # (w, POS_GRID)
    rope_within: Rope       # layers within a view: the special token at (0, 0), patch (r, c) at (r + 1, c + 1)
    rope_across: Rope       # layers across views: the special token only


def make_backbone_tables(h: int, w: int, device: torch.device) -> BackboneTables:
    """Tables of the backbone for h x w patches.

    A grid of the stored size takes the position embedding as it is, without the resampling's offset.
    Layers across views place the special token at (0, 0) and every patch at (1, 1). Attention sees differences
    of positions only, so leaving the patches alone and placing the special token at (-1, -1) is the same.
    """
    row = torch.arange(1, h + 1, device=device, dtype=torch.float32)[:, None].expand(h, w)
    column = torch.arange(1, w + 1, device=device, dtype=torch.float32).expand(h, w)
    origin = torch.zeros(1, device=device)
    stored = h == POS_GRID and w == POS_GRID
    return BackboneTables(
        pos_rows=torch.eye(h, device=device) if stored else resampling_matrix(h, device),
        pos_columns=torch.eye(w, device=device) if stored else resampling_matrix(w, device),
        rope_within=_rope(torch.cat([origin, row.flatten()]), torch.cat([origin, column.flatten()])),
        rope_across=_rope(origin - 1, origin - 1),
    )


class UVEmbedding(NamedTuple):
    """Sine-cosine embedding of image coordinates, kept separable: half of the channels see x, half see y."""

    along_x: Tensor     # (C/2, 1, w)
    along_y: Tensor     # (C/2, h, 1)

    def add_to(self, x: Tensor) -> Tensor:
        """x (V, C, h, w) plus the embedding, in the dtype of x."""
        half, h, w = self.along_x.shape[0], self.along_y.shape[1], self.along_x.shape[2]
        table = torch.cat([self.along_x.expand(half, h, w), self.along_y.expand(half, h, w)])
        return x + table.to(x.dtype)


def uv_embedding(h: int, w: int, channels: int, aspect: float, device: torch.device) -> UVEmbedding:
    """Embedding of an h x w map with ``channels`` channels for an image of the given aspect (width / height).

    Coordinates are pixel centres on a rectangle of that aspect with a diagonal of 2; the aspect is the image's
    also where the map's own differs by rounding.
    """
    diagonal = (aspect**2 + 1) ** 0.5
    x_end, y_end = aspect / diagonal * (w - 1) / w, (h - 1) / h / diagonal
    quarter = channels // 4
    exponent = torch.arange(quarter, device=device, dtype=torch.float32) / quarter
    frequency = (_UV_BASE**-exponent)[:, None]                               # (C/4, 1)

    def waves(end: float, steps: int) -> Tensor:
        angle = frequency * torch.linspace(-end, end, steps, device=device)  # (C/4, steps)
        return _UV_AMPLITUDE * torch.cat([angle.sin(), angle.cos()])         # (C/2, steps)

    return UVEmbedding(waves(x_end, w)[:, None, :], waves(y_end, h)[:, :, None])
