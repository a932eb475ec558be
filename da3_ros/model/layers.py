"""Transformer layers: attention, feed-forward and the residual block around them.

Residual stream, normalisation, layer scale and rotary embedding are computed in fp32; linear layers and the
attention itself in the dtype of their weights.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from da3_ros.model import fused
from da3_ros.model.attention import scaled_dot_product
from da3_ros.model.regions import region
from da3_ros.model.tables import Rope


def low_precision_parameters(module: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters that take the network's dtype; all others stay in fp32.

    These are the weights of linear and convolution layers, except below a module that says ``keep_fp32``.
    """
    if getattr(module, "keep_fp32", False):
        return
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        yield from module.parameters(recurse=False)
    for child in module.children():
        yield from low_precision_parameters(child)


class LayerScale(nn.Module):
    """A learned factor per channel."""

    def __init__(self, dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.fc1.weight.dtype)
        if fused.applies(x, self.fc1):
            return self.fc2(fused.linear_gelu(x, self.fc1.weight, self.fc1.bias))
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    """Gated feed-forward layer: w3(silu(a) * b), a and b the halves of w12(x)."""

    def __init__(self, dim: int):
        super().__init__()
        hidden = (int(4 * dim * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x.to(self.w12.weight.dtype)).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * value)


class QKV(NamedTuple):
    """Queries, keys and values of the tokens of N views, each (B, N, T, heads, d) in the network's dtype."""

    q: Tensor
    k: Tensor
    v: Tensor


class Attention(nn.Module):
    """Multi-head self-attention over the tokens of one view or of all views.

    Its parts are methods of their own, so that keys and values may come from a cache and queries be those of some
    tokens only. ``product`` is the attention itself, scaled_dot_product unless something puts another in its place.
    """

    def __init__(self, dim: int, heads: int, qk_norm: bool):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else None
        self.k_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else None
        self.proj = nn.Linear(dim, dim)
        self.product: Callable[[Tensor, Tensor, Tensor], Tensor] = scaled_dot_product

    def project(self, x: Tensor, rope: Rope | None = None) -> QKV:
        """Queries, keys and values, each (B, N, T, heads, d), of x (B, N, T, D)."""
        qkv = self.qkv(x.to(self.qkv.weight.dtype)).unflatten(-1, (3, self.heads, -1))
        both, v = qkv[..., :2, :, :], qkv[..., 2, :, :]     # queries and keys go the same way together
        if self.q_norm is not None and self.k_norm is not None:
            weight = torch.stack([self.q_norm.weight, self.k_norm.weight])[:, None]
            bias = torch.stack([self.q_norm.bias, self.k_norm.bias])[:, None]
            both = F.layer_norm(both.float(), self.q_norm.normalized_shape, eps=self.q_norm.eps) * weight + bias
        if rope is not None:
            both = rope.rotate(both.flatten(-3, -2)).unflatten(-2, (2, -1))
        q, k = both.to(v.dtype).unbind(-3)
        return QKV(q, k, v)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of q (G, Tq, heads, d) to k and v (G, Tk, heads, d) in each group; (G, Tq, D)."""
        mixed = self.product(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(mixed.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Pre-norm transformer layer with layer scale."""

    def __init__(self, dim: int, heads: int, *, swiglu: bool = False, qk_norm: bool = False, eps: float = 1e-6):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, qk_norm)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = SwiGLU(dim) if swiglu else Mlp(dim, 4 * dim)
        self.ls2 = LayerScale(dim)

    @region
    def forward(self, x: Tensor, rope: Rope | None = None, across_views: bool = False) -> Tensor:
        """x (B, N, T, D) fp32 in and out: tokens attend within their view, or across all N views of their window."""
        return self.finish(x, self.project(x, rope), across_views)

    @region
    def project(self, x: Tensor, rope: Rope | None = None) -> QKV:
        """Queries, keys and values of the layer's input x."""
        return self.attn.project(self.norm1(x), rope)

    @region
    def finish(self, x: Tensor, qkv: QKV, across_views: bool = False) -> Tensor:
        """The layer's output, of its input x and what ``project`` makes of it."""
        first, last = (1, 2) if across_views else (0, 1)
        q, k, v = (part.flatten(first, last) for part in qkv)
        return self._feed_forward(x + self.ls1(self.attn.attend(q, k, v).view_as(x)))

    @region
    def finish_some(self, x: Tensor, rope: Rope, views: Tensor) -> tuple[Tensor, Tensor]:
        """A layer across views, of which only some tokens are wanted: all those of ``views``, (m,) int64, and the
        special token of every view; (B, m, T, D) and (B, N, D). They attend to all tokens of x (B, N, T, D)."""
        q, k, v = self.attn.project(self.norm1(x), rope)
        q = torch.cat([q[:, views].flatten(1, 2), q[:, :, 0]], dim=1)
        some = torch.cat([x[:, views].flatten(1, 2), x[:, :, 0]], dim=1)
        some = self._feed_forward(some + self.ls1(self.attn.attend(q, k.flatten(1, 2), v.flatten(1, 2))))
        tokens = len(views) * x.shape[2]
        return some[:, :tokens].unflatten(1, (len(views), x.shape[2])), some[:, tokens:]

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x + self.ls2(self.mlp(self.norm2(x)))
