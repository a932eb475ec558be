"""Dense heads: feature tokens of a view to maps at image resolution.

A feature pyramid in the manner of DPT, one fusion path per output (arXiv 2511.10647, section 3.2). Heads see views
independently, so they may be run for any subset of the views of a window.
"""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_ros.errors import InputError
from da3_ros.model.guided_upsampling import as_guide, snap_to_guide
from da3_ros.model.output_stack import OutputConv, OutputStack
from da3_ros.model.regions import region
from da3_ros.model.tables import TableCache, UVEmbedding, uv_embedding
from da3_ros.model.variants import PATCH, Variant

_VIEWS_AT_ONCE = 8      # bounds the memory of the full-resolution maps; no effect on the result
_RAY_CHANNELS = 7
_RAY_LEVEL = 3          # of the four auxiliary output stacks in the checkpoints, the one that was trained


class DenseMaps(NamedTuple):
    """Outputs of the dual head; ray maps are None unless they were asked for."""

    depth: Tensor                       # (B, n, H, W) fp32
    depth_conf: Tensor                  # (B, n, H, W) fp32
    ray: Tensor | None = None           # (B, n, 8h, 8w, 6) fp32 for h x w patches: direction, origin
    ray_conf: Tensor | None = None      # (B, n, 8h, 8w) fp32


class InputConv(nn.Conv2d):
    """1x1 convolution of fp32 tokens, in the dtype of its weights."""

    def __init__(self, channels: int, outputs: int):
        super().__init__(channels, outputs, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(V, P, outputs) of tokens (V, P, channels), as a matrix product rather than a convolution."""
        return F.linear(tokens.to(self.weight.dtype), self.weight.flatten(1), self.bias)


class Subdivision(nn.ConvTranspose2d):
    """Makes every pixel a square of ``factor`` x ``factor`` pixels: a transposed convolution without overlap."""

    def __init__(self, channels: int, factor: int):
        super().__init__(channels, channels, factor, stride=factor)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(V, C, factor h, factor w) of x (V, C, h, w), as a matrix product with channels last in memory."""
        factor, height, width = self.weight.shape[-1], x.shape[2], x.shape[3]
        assert self.bias is not None
        weight, bias = self.weight.permute(2, 3, 1, 0).flatten(0, 2), self.bias.repeat(factor**2)
        squares = F.linear(x.permute(0, 2, 3, 1), weight, bias).unflatten(-1, (factor, factor, -1))
        pixels = squares.transpose(2, 3).reshape(len(x), factor * height, factor * width, -1)
        return pixels.permute(0, 3, 1, 2)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions, each after a ReLU, around a skip connection."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class Fusion(nn.Module):
    """Joins a coarse map with the next finer pyramid level and enlarges the result."""

    def __init__(self, channels: int, has_lateral: bool = True):
        super().__init__()
        self.resConfUnit1 = ResidualUnit(channels) if has_lateral else None
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, lateral: Tensor | None, size: tuple[int, int]) -> Tensor:
        if self.resConfUnit1 is not None and lateral is not None:
            x = x + self.resConfUnit1(lateral)
        # A 1x1 convolution commutes with interpolation and is cheaper before it.
        return enlarge(self.out_conv(self.resConfUnit2(x)), size)


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resize of x (V, C, h, w) that maps corner pixels onto corner pixels."""
    if x.requires_grad and x.is_cuda:
        return _enlarge_by_products(x, size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


def arrange_weights(head: nn.Module) -> None:
    """Puts convolution weights of a head on CUDA into the order of its maps, channels last: tokens are in it already,
    and else every convolution would reorder its weights at every call."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module.weight.is_cuda:
            with torch.inference_mode(False):       # so that the weights may be trained afterwards
                module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def _enlarge_by_products(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The same by two products of matrices, for training: the gradient of interpolation scatters pixel by pixel, and
    on a GPU takes longer than all convolutions of the head. Weights are whole 1/256, which bfloat16 holds exactly."""
    rows, columns = (_corner_matrix(n, to, x.device) for n, to in zip(x.shape[-2:], size, strict=True))
    across = columns @ x.permute(0, 2, 3, 1)                                # (V, h, W, C)
    return (rows @ across.flatten(2)).unflatten(2, (size[1], -1)).permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=64)
def _corner_matrix(count: int, to: int, device: torch.device) -> Tensor:
    """Bilinear resampling (to, count) along one side, corner onto corner, its weights rounded to 1/256."""
    place = torch.linspace(0, count - 1, to, device=device, dtype=torch.float64)
    low = place.floor().clamp(max=max(0, count - 2))
    share = ((place - low) * 256).round() / 256
    index = torch.arange(count, device=device)
    matrix = (index == low[:, None]) * (1 - share[:, None]) + (index == low[:, None] + 1) * share[:, None]
    return matrix.float()


class DenseTables(NamedTuple):
    """Coordinate embeddings of a head for one image size."""

    levels: tuple[UVEmbedding, ...]     # after the projection of each pyramid level
    image: UVEmbedding                  # before the last convolutions, at image resolution
    ray: UVEmbedding                    # the same for rays, at 8/14 of image resolution


def make_dense_tables(
    out_channels: Sequence[int], features: int, height: int, width: int, device: torch.device
) -> DenseTables:
    """Coordinate embeddings for H x W images."""
    h, w, aspect = height // PATCH, width // PATCH, width / height
    return DenseTables(
        levels=tuple(uv_embedding(h, w, channels, aspect, device) for channels in out_channels),
        image=uv_embedding(height, width, features // 2, aspect, device),
        ray=uv_embedding(8 * h, 8 * w, features // 2, aspect, device),
    )


class PyramidHead(nn.Module):
    """The part that all dense heads share: pyramid, fusion, and the output stack at image resolution.

    With ``half_resolution``, an approximation, the output stack runs on the map as it is fused, at 8/14 of the image,
    with kernels to match, and its results are enlarged instead of its input; if ``guided`` too, with the images as a
    guide (see guided_upsampling).
    """

    def __init__(self, variant: Variant, outputs: int):
        super().__init__()
        oc, features, dim = variant.out_channels, variant.features, variant.feature_dim
        self.half_resolution = False
        self.guided = False
        self.tables = TableCache(partial(make_dense_tables, oc, features))
        self.projects = nn.ModuleList(InputConv(dim, channels) for channels in oc)
        self.resize_layers = nn.ModuleDict({        # level 2 keeps its size
            "0": Subdivision(oc[0], 4),
            "1": Subdivision(oc[1], 2),
            "3": nn.Conv2d(oc[3], oc[3], 3, stride=2, padding=1),
        })
        self.scratch = nn.ModuleDict({
            f"layer{level + 1}_rn": nn.Conv2d(channels, features, 3, padding=1, bias=False)
            for level, channels in enumerate(oc)
        })
        self.scratch.update(_fusion_path(features, ""))
        self.scratch["output_conv1"] = nn.Conv2d(features, features // 2, 3, padding=1)
        self.scratch["output_conv2"] = OutputStack(features // 2, outputs)

    def pyramid(self, tokens: Sequence[Tensor], size: tuple[int, int], uv: Sequence[UVEmbedding]) -> list[Tensor]:
        """Four maps (V, F, ., .), finest first, of 4 x (V, P, feature_dim); ``uv`` may be empty."""
        grid = (size[0] // PATCH, size[1] // PATCH)
        levels = []
        for level, (project, x) in enumerate(zip(self.projects, tokens, strict=True)):
            x = project(x).mT.unflatten(-1, grid)
            if uv:
                x = uv[level].add_to(x)
            if str(level) in self.resize_layers:
                x = self.resize_layers[str(level)](x)
            levels.append(self.scratch[f"layer{level + 1}_rn"](x))
        return levels

    def output_stack(self, name: str = "output_conv2") -> OutputStack:
        """The last convolutions, by their name in the checkpoints."""
        stack = self.scratch[name]
        assert isinstance(stack, OutputStack)
        return stack

    def with_guide(self, levels: Sequence[Tensor], images: Tensor | None) -> list[Tensor]:
        """``levels``, 4 x (B, n, P, C), and after them the guide (B, n, 3, H, W) if the head is guided.

        Raises InputError if it is and there are no ``images``.
        """
        if not self.guided:
            return list(levels)
        if images is None:
            raise InputError("a head with guided upsampling decodes views with their images only")
        return [*levels, as_guide(images)]

    def enlarge_logits(self, coarse: Tensor, size: tuple[int, int], guide: Sequence[Tensor]) -> Tensor:
        """Logits (V, C, H, W) of those at 8/14, log depth first; ``guide``: none, or one (V, 3, H, W)."""
        enlarged = enlarge(coarse, size)
        return snap_to_guide(coarse, enlarged, guide[0]) if guide else enlarged

    def fuse(self, levels: Sequence[Tensor], path: str = "") -> Tensor:
        """One map (V, F, 8h, 8w) of the four pyramid levels, through the fusion path of the given suffix."""
        sizes = [tuple(level.shape[-2:]) for level in levels]
        sizes.insert(0, (2 * sizes[0][0], 2 * sizes[0][1]))
        fused = self.scratch[f"refinenet4{path}"](levels[3], None, sizes[3])
        for level in (2, 1, 0):
            fused = self.scratch[f"refinenet{level + 1}{path}"](fused, levels[level], sizes[level])
        return fused


def _fusion_path(features: int, path: str) -> dict[str, nn.Module]:
    return {f"refinenet{level}{path}": Fusion(features, has_lateral=level < 4) for level in (1, 2, 3, 4)}


def in_chunks(
    decode: Callable[[Sequence[Tensor]], tuple[Tensor | None, ...]], levels: Sequence[Tensor]
) -> tuple[Any, ...]:
    """Runs ``decode`` on 4 x (V, P, C), a few views at a time, over levels 4 x (B, n, P, C); maps (B, n, ...)."""
    lead = levels[0].shape[:2]
    # While gradients are recorded all maps are kept anyway, and chunks would only cost time.
    at_once = lead.numel() if levels[0].requires_grad else _VIEWS_AT_ONCE
    chunks = zip(*(level.flatten(0, 1).split(at_once) for level in levels), strict=True)
    parts = [decode(chunk) for chunk in chunks]
    return tuple(
        None if maps[0] is None else torch.cat(maps).unflatten(0, lead) for maps in zip(*parts, strict=True)
    )


class RayStack(nn.ModuleDict):
    """Last layers of the ray path; the normalisation is shared with other stacks."""

    def __init__(self, channels: int, norm: nn.LayerNorm):
        super().__init__({
            "0": nn.Conv2d(channels, 32, 3, padding=1), "2": norm, "5": OutputConv(32, _RAY_CHANNELS),
        })

    def forward(self, x: Tensor) -> Tensor:
        """(V, h, w, 7) of x (V, C, h, w)."""
        x = self["2"](self["0"](x).permute(0, 2, 3, 1).float())
        return self["5"](F.relu(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class DualHead(PyramidHead):
    """Depth with confidence, and rays with confidence, from one pyramid through two fusion paths."""

    def __init__(self, variant: Variant):
        super().__init__(variant, outputs=2)
        self.norm = nn.LayerNorm(variant.feature_dim, eps=1e-5)
        features, half = variant.features, variant.features // 2
        self.scratch.update(_fusion_path(features, "_aux"))
        # Published files hold four auxiliary output stacks, of which the first three were never trained: they are
        # here to be loaded and saved. One normalisation is shared by all four.
        shared_norm = nn.LayerNorm(32, eps=1e-5)
        self.scratch["output_conv1_aux"] = nn.ModuleList(
            nn.Sequential(*(
                nn.Conv2d(*((features, half) if i % 2 == 0 else (half, features)), 3, padding=1) for i in range(5)
            ))
            for _ in range(4)
        )
        self.scratch["output_conv2_aux"] = nn.ModuleList(RayStack(half, shared_norm) for _ in range(4))

    def forward(
        self, levels: Sequence[Tensor], size: tuple[int, int], ray: bool = False, images: Tensor | None = None
    ) -> DenseMaps:
        """Maps of the views in ``levels``, 4 x (B, n, P, feature_dim), for images of ``size`` (H, W).

        The ray path, more than half of the arithmetic, runs only where ``ray`` is set. ``images`` (B, n, 3, H, W) of
        these views are needed, normalised, where the head is guided.
        """
        tables = self.tables.get(*size, levels[0].device)
        parts = self.with_guide(levels, images)
        return DenseMaps(*in_chunks(lambda part: self._decode(part[:4], size, tables, ray, part[4:]), parts))

    @region
    def _decode(
        self,
        tokens: Sequence[Tensor],
        size: tuple[int, int],
        tables: DenseTables,
        ray: bool,
        guide: Sequence[Tensor],
    ) -> DenseMaps:
        """The same for views without a batch dimension, 4 x (V, P, feature_dim)."""
        levels = self.pyramid([self.norm(x) for x in tokens], size, tables.levels)
        x = self.scratch["output_conv1"](self.fuse(levels))
        if self.half_resolution:
            logits = self.enlarge_logits(self.output_stack().coarse(tables.ray.add_to(x)), size, guide)
        else:
            logits = self.output_stack()(tables.image.add_to(enlarge(x, size)))
        depth, confidence = logits.exp().unbind(1)
        if not ray:
            return DenseMaps(depth, confidence + 1, None, None)

        enter = self.scratch.get_submodule(f"output_conv1_aux.{_RAY_LEVEL}")
        leave = self.scratch.get_submodule(f"output_conv2_aux.{_RAY_LEVEL}")
        x = leave(tables.ray.add_to(enter(self.fuse(levels, "_aux"))))      # (V, 8h, 8w, 7)
        return DenseMaps(depth, confidence + 1, x[..., :6], x[..., 6].exp() + 1)


class SkyMaps(NamedTuple):
    """Outputs of the single-view head."""

    depth: Tensor       # (B, n, H, W) fp32
    sky: Tensor         # (B, n, H, W) fp32, >= 0, large where there is sky


class SkyHead(PyramidHead):
    """Depth and sky of the single-view networks: plain DPT, without coordinate embeddings."""

    def __init__(self, variant: Variant):
        super().__init__(variant, outputs=1)
        self.scratch["sky_output_conv2"] = OutputStack(variant.features // 2, 1)

    def forward(self, levels: Sequence[Tensor], size: tuple[int, int], images: Tensor | None = None) -> SkyMaps:
        """Maps of the views in ``levels``, 4 x (B, n, P, D), for images of size (H, W); ``images`` as in DualHead."""
        parts = self.with_guide(levels, images)
        return SkyMaps(*in_chunks(lambda part: self._decode(part[:4], size, part[4:]), parts))

    @region
    def _decode(self, tokens: Sequence[Tensor], size: tuple[int, int], guide: Sequence[Tensor]) -> SkyMaps:
        x = self.scratch["output_conv1"](self.fuse(self.pyramid(tokens, size, ())))
        stacks = self.output_stack(), self.output_stack("sky_output_conv2")
        if self.half_resolution:
            depth, sky = (stack.coarse(x) for stack in stacks)
            depth, sky = self.enlarge_logits(depth, size, guide), enlarge(sky, size)
        else:
            x = enlarge(x, size)
            depth, sky = (stack(x) for stack in stacks)
        return SkyMaps(depth.exp().squeeze(1), F.relu(sky).squeeze(1))


def set_half_resolution(model: nn.Module, half: bool, guided: bool = False) -> None:
    """Sets ``half_resolution``, and with it ``guided``, of all depth heads of ``model``, for the weights of now."""
    for part in model.modules():
        if isinstance(part, (DualHead, SkyHead)):
            part.half_resolution = half
            part.guided = half and guided
            for stack in part.modules():
                if isinstance(stack, OutputStack):
                    stack.set_coarse(half)
