"""The vision transformer that turns images into per-patch features and one camera feature per view.

A DINOv2 backbone whose second part alternates between attention within a view and across all views
(arXiv 2511.10647, section 3). Its stages are separate methods: what depends on one image alone
(``encode_views``) can be kept while a window of views slides.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_ros.model.layers import Block
from da3_ros.model.tables import BackboneTables, TableCache, make_backbone_tables
from da3_ros.model.variants import PATCH, POS_GRID, Variant


@dataclass(frozen=True)
class ViewState:
    """What the first part of the backbone knows of each view; a function of that view's image alone."""

    tokens: Tensor                  # (B, N, T, D) fp32, T = 1 + P: the special token, then patches row by row
    summary: Tensor                 # (B, N, D) fp32, the vector by which the reference view is chosen
    size: tuple[int, int]           # (H, W) of the images


@dataclass(frozen=True)
class Features:
    """Output of the backbone. Everything downstream treats views independently."""

    levels: tuple[Tensor, ...]      # 4 x (B, N, P, feature_dim), input of the dense heads
    camera: Tensor                  # (B, N, feature_dim), input of the camera decoder
    size: tuple[int, int]           # (H, W) of the images

    def views(self, index: slice | Tensor) -> "Features":
        """The features of some views only: a slice, or an int64 tensor of view indices on the same device."""
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

    def mix_views(self, state: ViewState, camera_tokens: Tensor) -> Features:
        """Runs the part that relates views, with camera_tokens (B, N, D) in the place of the special tokens."""
        tables = self._tables(state.size, state.tokens.device)
        tokens = torch.cat([camera_tokens[:, :, None], state.tokens[:, :, 1:]], dim=2)
        local = state.tokens
        levels = []
        for layer in range(self.mix_start, self.variant.depth):
            block, across = self.pretrained.blocks[layer], layer % 2 == 1
            tokens = block(tokens, tables.rope_across if across else tables.rope_within, across)
            if not across:
                local = tokens
            if layer in self.variant.out_layers:
                levels.append(self.join(local[:, :, 1:], tokens[:, :, 1:]))
        camera = torch.cat([local[:, :, 0], tokens[:, :, 0]], dim=-1)
        return Features(tuple(levels), camera, state.size)

    def join(self, local: Tensor, mixed: Tensor) -> Tensor:
        """Feature of a layer: the last within-view output as it is, and the layer's own output normalised."""
        return torch.cat([local, self.pretrained.norm(mixed)], dim=-1)

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
