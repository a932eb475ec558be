"""The vision transformer that turns images into per-patch features and one camera feature per view.

A DINOv2 backbone whose second part alternates between attention within a view and across all views
(arXiv 2511.10647, section 3). Its stages are separate methods: what depends on one image alone
(``encode_views``) can be kept while a window of views slides.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_ros.model.layers import QKV, Block
from da3_ros.model.regions import region
from da3_ros.model.tables import BackboneTables, Rope, TableCache, make_backbone_tables
from da3_ros.model.variants import PATCH, POS_GRID, Variant


@dataclass(frozen=True)
class ViewState:
    """What the first part of the backbone knows of each view; a function of that view's image alone."""

    tokens: Tensor                  # (B, N, T, D) fp32, T = 1 + P: the special token, then patches row by row
    summary: Tensor                 # (B, N, D) fp32, the vector by which the reference view is chosen
    size: tuple[int, int]           # (H, W) of the images


@dataclass(frozen=True)
class Entry:
    """Where the views of a window meet: what the first layer across views takes of each of them.

    It depends on the view's own image and camera token alone, so it too may be kept: see Backbone.enter.
    """

    tokens: Tensor                  # (B, N, T, D) fp32, input of that layer
    qkv: QKV                        # of that layer
    size: tuple[int, int]           # (H, W) of the images


@dataclass(frozen=True)
class Features:
    """Output of the backbone. Everything downstream treats views independently."""

    levels: tuple[Tensor, ...]      # 4 x (B, n, P, feature_dim), input of the dense heads, of n of the views
    camera: Tensor                  # (B, N, feature_dim), input of the camera decoder, of all views
    size: tuple[int, int]           # (H, W) of the images

    def views(self, index: slice | Tensor) -> "Features":
        """Of features of all views those of some: a slice, or an int64 tensor of view indices on the same device."""
        return Features(tuple(level[:, index] for level in self.levels), self.camera[:, index], self.size)


class PatchEmbedding(nn.Module):
    """One linear map of every 14 x 14 patch."""

    def __init__(self, dim: int):
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """(B, N, P, D) of images (B, N, 3, H, W), as a matrix product rather than a convolution."""
        patches = images.unflatten(-1, (-1, PATCH)).unflatten(-3, (-1, PATCH))     # (B, N, 3, h, 14, w, 14)
        patches = patches.permute(0, 1, 3, 5, 2, 4, 6).flatten(-3).flatten(2, 3)   # (B, N, P, 588)
        return F.linear(patches.to(self.proj.weight.dtype), self.proj.weight.flatten(1), self.proj.bias)


class VisionTransformer(nn.Module):
    """The parameters of the backbone, and its layers one by one; the order of layers is Backbone's concern."""

    def __init__(self, variant: Variant):
        super().__init__()
        start = variant.depth if variant.mix_start is None else variant.mix_start
        self.cls_token = nn.Parameter(torch.zeros(1, 1, variant.dim))
        if variant.any_view:
            self.camera_token = nn.Parameter(torch.zeros(1, 2, variant.dim))    # of the reference, of the others
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + POS_GRID**2, variant.dim))
        self.patch_embed = PatchEmbedding(variant.dim)
        self.blocks = nn.ModuleList(
            Block(variant.dim, variant.heads, swiglu=variant.swiglu, qk_norm=layer >= start)
            for layer in range(variant.depth)
        )
        self.norm = nn.LayerNorm(variant.dim, eps=1e-5)

    @region
    def embed(self, images: Tensor, tables: BackboneTables) -> Tensor:
        """Tokens (B, N, T, D) fp32 of images (B, N, 3, H, W)."""
        grid = self.pos_embed[0, 1:].unflatten(0, (POS_GRID, POS_GRID))            # (37, 37, D)
        position = tables.pos_columns @ (tables.pos_rows @ grid.flatten(1)).unflatten(1, (POS_GRID, -1))
        special = (self.cls_token + self.pos_embed[:, :1]).expand(*images.shape[:2], 1, -1)
        return torch.cat([special, self.patch_embed(images) + position.flatten(0, 1)], dim=2)


class Backbone(nn.Module):
    """Order of the layers, roles of the views, and assembly of the features."""

    def __init__(self, variant: Variant):
        super().__init__()
        self.variant = variant
        self.pretrained = VisionTransformer(variant)
        self.tables = TableCache(make_backbone_tables)

    def _tables(self, size: tuple[int, int], device: torch.device) -> BackboneTables:
        return self.tables.get(size[0] // PATCH, size[1] // PATCH, device)

    def block(self, layer: int) -> Block:
        """One layer."""
        return cast(Block, self.pretrained.blocks[layer])

    @property
    def mix_start(self) -> int:
        """First layer of the second part; the number of layers in a single-view network."""
        return self.variant.depth if self.variant.mix_start is None else self.variant.mix_start

    def encode_views(self, images: Tensor) -> ViewState:
        """Runs the part of an any-view backbone that sees each image alone: images (B, N, 3, H, W)."""
        size = (images.shape[-2], images.shape[-1])
        tokens = self.pretrained.embed(images, self._tables(size, images.device))
        summary = tokens[:, :, 0]
        for layer in range(self.mix_start):
            tokens = self.pretrained.blocks[layer](tokens)
            if layer == self.mix_start - 2:
                summary = tokens[:, :, 0]
        return ViewState(tokens, summary, size)

    def role_tokens(self, reference: Tensor, views: int) -> Tensor:
        """Camera tokens (B, N, D) when poses are unknown: one for the reference view, one for all others.

        ``reference`` (B,) int64 is the index of the reference view of each batch element.
        """
        is_reference = reference[:, None] == torch.arange(views, device=reference.device)
        of_reference, of_source = self.pretrained.camera_token[0]
        return torch.where(is_reference[..., None], of_reference, of_source)

    @property
    def first_across(self) -> int:
        """First layer across views: the first of the second part, or the one after it."""
        return self.mix_start + 1 - self.mix_start % 2

    def enter(self, tokens: Tensor, camera_tokens: Tensor, size: tuple[int, int]) -> Entry:
        """Takes views, by the ``tokens`` (B, N, T, D) of their state, up to where they meet.

        camera_tokens (B, N, D) come into the place of the special tokens.
        """
        rope_within, rope_across = self._tables(size, tokens.device)[2:]
        within = self.block(self.mix_start) if self.mix_start < self.first_across else None
        across = self.block(self.first_across)
        return Entry(*meet(within, across, tokens, camera_tokens, rope_within, rope_across), size)

    def with_camera_tokens(self, entry: Entry, camera_tokens: Tensor) -> Entry:
        """``entry`` with other camera tokens (B, N, D), in networks where no layer comes before views meet.

        There the patches do not depend on the camera tokens. In other networks enter again.
        """
        assert self.mix_start == self.first_across
        tables = self._tables(entry.size, entry.tokens.device)
        special = camera_tokens[:, :, None]
        of_special = self.block(self.first_across).project(special, tables.rope_across)
        replace_first = [
            torch.cat([new, old[:, :, 1:]], dim=2)
            for new, old in zip((special, *of_special), (entry.tokens, *entry.qkv), strict=True)
        ]
        return Entry(replace_first[0], QKV(*replace_first[1:]), entry.size)

    def mix(self, entry: Entry, wanted: Tensor | None = None) -> Features:
        """Relates all views. Levels are those of the views ``wanted``, (n,) int64 on the same device, all if None;
        what only the others' levels need is not computed."""
        rope_within, rope_across = self._tables(entry.size, entry.tokens.device)[2:]
        local = entry.tokens
        levels = []
        if self.mix_start in self.variant.out_layers and self.mix_start < self.first_across:
            levels.append(self.join(local, local, wanted))
        tokens = self.block(self.first_across).finish(entry.tokens, entry.qkv, True)
        if self.first_across in self.variant.out_layers:
            levels.append(self.join(local, tokens, wanted))
        special = tokens[:, :, 0]
        for layer in range(self.first_across + 1, self.variant.depth - 1, 2):       # from here on in pairs
            within, across = self.block(layer), self.block(layer + 1)
            only = wanted if layer + 2 == self.variant.depth else None
            if only is not None:
                local, tokens, special = mix_some(within, across, tokens, rope_within, rope_across, only)
            else:
                local, tokens = mix_once(within, across, tokens, rope_within, rope_across)
                special = tokens[:, :, 0]
            if layer in self.variant.out_layers:
                levels.append(self.join(local, local, wanted))
            if layer + 1 in self.variant.out_layers:
                levels.append(self.join(local, tokens, wanted) if only is None else self.join(local[:, only], tokens))
        if self.variant.depth % 2:      # a last layer within views remains, in none of the published networks
            local = self.block(self.variant.depth - 1)(tokens, rope_within)
            special = local[:, :, 0]
            if self.variant.depth - 1 in self.variant.out_layers:
                levels.append(self.join(local, local, wanted))
        return Features(tuple(levels), torch.cat([local[:, :, 0], special], dim=-1), entry.size)

    def mix_views(self, state: ViewState, camera_tokens: Tensor, wanted: Tensor | None = None) -> Features:
        """Runs the whole part that relates views: ``enter``, then ``mix``."""
        return self.mix(self.enter(state.tokens, camera_tokens, state.size), wanted)

    @region
    def join(self, local: Tensor, mixed: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Feature of a layer, of ``wanted`` views or all: the last within-view output as it is, and the layer's own
        output normalised, without special tokens."""
        if wanted is not None:
            local, mixed = local[:, wanted], mixed[:, wanted]
        return torch.cat([local[:, :, 1:], self.pretrained.norm(mixed[:, :, 1:])], dim=-1)

    def encode_single(self, images: Tensor) -> tuple[Tensor, ...]:
        """All layers of a single-view network: 4 x (B, N, P, D) for images (B, N, 3, H, W)."""
        size = (images.shape[-2], images.shape[-1])
        tokens = self.pretrained.embed(images, self._tables(size, images.device))
        levels = []
        for layer, block in enumerate(self.pretrained.blocks):
            tokens = block(tokens)
            if layer in self.variant.out_layers:
                levels.append(self.pretrained.norm(tokens[:, :, 1:]))
        return tuple(levels)


@region
def meet(
    within: Block | None, across: Block, tokens: Tensor, camera_tokens: Tensor, rope_within: Rope, rope_across: Rope
) -> tuple[Tensor, QKV]:
    """Input of the layer ``across``, and its queries, keys and values, of tokens (B, N, T, D) that get their
    camera_tokens (B, N, D) and pass the layer ``within``, if there is one."""
    tokens = torch.cat([camera_tokens[:, :, None], tokens[:, :, 1:]], dim=2)
    if within is not None:
        tokens = within(tokens, rope_within)
    return tokens, across.project(tokens, rope_across)


@region
def mix_once(
    within: Block, across: Block, tokens: Tensor, rope_within: Rope, rope_across: Rope
) -> tuple[Tensor, Tensor]:
    """Output of a layer within views, and of the layer across views after it, of tokens (B, N, T, D)."""
    local = within(tokens, rope_within)
    return local, across(local, rope_across, True)


@region
def mix_some(
    within: Block, across: Block, tokens: Tensor, rope_within: Rope, rope_across: Rope, wanted: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same where of the second layer's output only some is wanted, see Block.finish_some."""
    local = within(tokens, rope_within)
    return local, *across.finish_some(local, rope_across, wanted)
