"""Fewer keys and values in the layers across views: for windows of many views, where all pairs of tokens cost most.

An approximation. Keys and values of a view's patches are averaged over squares of patches; every query, and every
layer within a view, stays at full resolution, and so do the special tokens that carry the cameras.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from da3_ros.model.attention import scaled_dot_product
from da3_ros.model.backbone import Backbone
from da3_ros.model.layers import Block
from da3_ros.model.layout import Network
from da3_ros.model.variants import PATCH

FEWEST_VIEWS = 17       # up to 16 the attention is exact
_HOPPER = (9, 0)        # compute capability


@dataclass(frozen=True)
class ReducedAttention:
    """Takes the place of scaled_dot_product for tokens of N views with ``grid`` (h, w) patches each."""

    grid: tuple[int, int]
    factor: int             # patches along a side of the squares
    cudnn: bool             # take cuDNN's kernel, the fastest on Hopper, instead of FlashAttention's

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of q (G, heads, Tq, d) to k and v (G, heads, N T, d), T = 1 + h w; (G, heads, Tq, d).

        The softmax counts an averaged key as often as there are patches in it.
        """
        h, w = self.grid
        if k.shape[2] < FEWEST_VIEWS * (1 + h * w):
            return scaled_dot_product(q, k, v)
        k, v = (part.unflatten(2, (-1, 1 + h * w)) for part in (k, v))          # (G, heads, N, T, d)
        keys, values = self._average(k[:, :, :, 1:]), self._average(v[:, :, :, 1:])
        of_patches, weight = self._attention_and_weight(q, keys, values)
        weight = weight + math.log(h * w * k.shape[2] / keys.shape[2])
        logits = (q @ k[:, :, :, 0].mT).float() / q.shape[-1] ** 0.5            # to the N special tokens
        of_special = logits.softmax(-1).to(v.dtype) @ v[:, :, :, 0]
        share = (weight - logits.logsumexp(-1)).sigmoid()[..., None].to(v.dtype)
        return torch.lerp(of_special, of_patches, share)

    def _average(self, patches: Tensor) -> Tensor:
        """(G, heads, N P', d) of (G, heads, N, P, d)."""
        h, w = self.grid
        groups, heads = patches.shape[:2]
        maps = patches.unflatten(3, (h, w)).flatten(0, 2).permute(0, 3, 1, 2)
        size = (math.ceil(h / self.factor), math.ceil(w / self.factor))
        return F.adaptive_avg_pool2d(maps, size).permute(0, 2, 3, 1).reshape(groups, heads, -1, patches.shape[-1])

    def _attention_and_weight(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Attention, and by query the logarithm of the sum of exponentials in its softmax, (G, heads, Tq) fp32."""
        if q.device.type == "cpu":
            mixed, weight = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[:2]
        elif q.dtype == torch.float32:
            mixed, weight = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[:2]
            weight = weight[..., : q.shape[2]]      # this kernel rounds the number of queries up
        elif self.cudnn:
            mixed, weight = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)[:2]
        else:
            mixed, weight = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[:2]
        return mixed, weight.reshape(q.shape[:-1])


def reduce_keys(model: Network, height: int, width: int, factor: int) -> None:
    """Makes the layers across views of ``model`` average keys and values over squares of ``factor`` patches to a side,
    for images of H x W pixels; with factor 1 they do not."""
    cudnn = model.device.type == "cuda" and torch.cuda.get_device_capability(model.device) >= _HOPPER
    reduced = ReducedAttention((height // PATCH, width // PATCH), factor, cudnn)
    product = scaled_dot_product if factor == 1 else reduced
    for part in model.modules():
        if isinstance(part, Backbone):
            for layer in range(part.first_across, part.variant.depth, 2):
                block = part.pretrained.blocks[layer]
                assert isinstance(block, Block)
                block.attn.product = product
