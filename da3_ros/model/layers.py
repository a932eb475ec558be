"""Transformer layers: attention, feed-forward and the residual block around them.

Residual stream, normalisation, layer scale and rotary embedding are computed in fp32; linear layers and the
attention itself in the dtype of their weights.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        return self.fc2(F.gelu(self.fc1(x.to(self.fc1.weight.dtype))))


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


class Attention(nn.Module):
    """Multi-head self-attention over the tokens of one view or of all views.

    ``project`` and ``attend`` are its two halves, so that keys and values of other views may come from a cache.
    """

    def __init__(self, dim: int, heads: int, qk_norm: bool):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else None
        self.k_norm = nn.LayerNorm(dim // heads, eps=1e-5) if qk_norm else None
        self.proj = nn.Linear(dim, dim)

    def project(self, x: Tensor, rope: Rope | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, N, T, heads, d), of x (B, N, T, D)."""
        qkv = self.qkv(x.to(self.qkv.weight.dtype)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.unbind(-3)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q.float()), self.k_norm(k.float())
        if rope is not None:
            q, k = rope.rotate(q), rope.rotate(k)
        return q.to(v.dtype), k.to(v.dtype), v

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of q (G, Tq, heads, d) to k and v (G, Tk, heads, d) in each group; (G, Tq, D)."""
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        return self.proj(mixed.transpose(1, 2).flatten(-2))

    def forward(self, x: Tensor, rope: Rope | None = None, across_views: bool = False) -> Tensor:
        """x (B, N, T, D): tokens attend within their view, or across all N views of their batch element."""
        first, last = (1, 2) if across_views else (0, 1)
        q, k, v = (part.flatten(first, last) for part in self.project(x, rope))
        return self.attend(q, k, v).view_as(x)


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

    def forward(self, x: Tensor, rope: Rope | None = None, across_views: bool = False) -> Tensor:
        """x (B, N, T, D) fp32 in and out; ``across_views`` as in Attention."""
        x = x + self.ls1(self.attn(self.norm1(x), rope, across_views))
        return x + self.ls2(self.mlp(self.norm2(x)))
