"""How much of a view is kept: everything up to where views meet, as far as that does not depend on other views.

A view's camera token is the only thing that others have a say in before their tokens meet: which of two tokens it is
follows from the choice of the reference view, and with known cameras it depends on all of them. Which of these
applies to a network decides what is kept; all of them are exact.
"""

from __future__ import annotations

from typing import Protocol

import torch

from da3_ros.model import DepthAnything3, ViewState
from da3_ros.model.backbone import Entry
from da3_ros.model.layers import QKV
from da3_ros.streaming.cache import ViewCache


class Entries(Protocol):
    """Keeps views by row, and lets those of the window enter where views meet.

    ``size`` is (H, W) of the images, known after the first write.
    """

    size: tuple[int, int]

    def write(self, rows: torch.Tensor, state: ViewState) -> None:
        """Keep the views of ``state`` (1, n, ...) in ``rows``, (n,) int64."""

    def read(self, rows: torch.Tensor, reference: torch.Tensor, camera_tokens: torch.Tensor) -> Entry:
        """The views in ``rows``, (N,) int64, with ``camera_tokens`` (1, N, D), which are those of the roles that
        ``reference`` (1,) int64 assigns, or of known cameras."""


class RoleEntries:
    """Both roles of every view, up to queries, keys and values of the first layer across views.

    For networks with a layer within views after the camera token, cameras unknown. A change of the reference view
    costs nothing.
    """

    def __init__(self, model: DepthAnything3, rows: int):
        self._backbone = model.backbone
        self._kept = ViewCache(rows)
        self.size = (0, 0)

    def write(self, rows: torch.Tensor, state: ViewState) -> None:
        """See Entries: one pass with two windows, in which all views are references and none is."""
        views = state.tokens.shape[1]
        camera_tokens = self._backbone.pretrained.camera_token[0][:, None].expand(2, views, -1)
        entry = self._backbone.enter(state.tokens.expand(2, -1, -1, -1), camera_tokens, state.size)
        self._kept.write(rows, *(part.transpose(0, 1) for part in (entry.tokens, *entry.qkv)))
        self.size = state.size

    def read(self, rows: torch.Tensor, reference: torch.Tensor, camera_tokens: torch.Tensor) -> Entry:
        """See Entries: of each view the role that it has."""
        is_source = torch.arange(len(rows), device=rows.device) != reference
        tokens, q, k, v = (part[None] for part in self._kept.read_second(rows, is_source.long()))
        return Entry(tokens, QKV(q, k, v), self.size)


class PatchEntries:
    """Patches up to queries, keys and values of the first layer across views, where the camera token comes right
    before it: patches have not seen it by then, and its own part is made at every step."""

    def __init__(self, model: DepthAnything3, rows: int):
        self._backbone = model.backbone
        self._kept = ViewCache(rows)
        self.size = (0, 0)

    def write(self, rows: torch.Tensor, state: ViewState) -> None:
        """See Entries."""
        entry = self._backbone.enter(state.tokens, state.tokens[:, :, 0], state.size)
        self._kept.write(rows, *(part[0] for part in (entry.tokens, *entry.qkv)))
        self.size = state.size

    def read(self, rows: torch.Tensor, reference: torch.Tensor, camera_tokens: torch.Tensor) -> Entry:
        """See Entries."""
        tokens, q, k, v = (part[None] for part in self._kept.read(rows))
        return self._backbone.with_camera_tokens(Entry(tokens, QKV(q, k, v), self.size), camera_tokens)


class TokenEntries:
    """Tokens up to the camera token, where that depends on all cameras and a layer within views follows."""

    def __init__(self, model: DepthAnything3, rows: int):
        self._backbone = model.backbone
        self._kept = ViewCache(rows)
        self.size = (0, 0)

    def write(self, rows: torch.Tensor, state: ViewState) -> None:
        """See Entries."""
        self._kept.write(rows, state.tokens[0])
        self.size = state.size

    def read(self, rows: torch.Tensor, reference: torch.Tensor, camera_tokens: torch.Tensor) -> Entry:
        """See Entries."""
        (tokens,) = self._kept.read(rows)
        return self._backbone.enter(tokens[None], camera_tokens, self.size)


def make_entries(model: DepthAnything3, rows: int, known_cameras: bool) -> Entries:
    """What keeps the most of each of ``rows`` views for this network."""
    if model.backbone.first_across == model.backbone.mix_start:
        return PatchEntries(model, rows)
    return TokenEntries(model, rows) if known_cameras else RoleEntries(model, rows)
