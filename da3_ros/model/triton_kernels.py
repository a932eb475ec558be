"""Kernels in Triton. Import only where Triton is installed."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _attend(
    q_in, k_in, v_in, out,
    q_group, q_head, q_token, k_group, k_head, k_token, v_group, v_head, v_token, out_group, out_head, out_token,
    heads, queries, keys, scale,
    rows: tl.constexpr, columns: tl.constexpr, dim: tl.constexpr,
):  # fmt: skip
    """Attention with a running softmax (Dao 2022) of ``rows`` queries of one head to all keys, ``columns`` at a time.

    ``scale`` holds log2(e) too, for exponentials of base 2. The last columns, as many as there are, come after the
    loop, so that only they are masked.
    """
    group, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    column = tl.arange(0, columns)
    channel = tl.arange(0, dim)
    q_at = q_in + group * q_group + head * q_head + row[:, None] * q_token + channel[None, :]
    k_at = k_in + group * k_group + head * k_head + column[None, :] * k_token + channel[:, None]
    v_at = v_in + group * v_group + head * v_head + column[:, None] * v_token + channel[None, :]
    q = tl.load(q_at, mask=row[:, None] < queries, other=0.0)
    most = tl.full([rows], -float("inf"), tl.float32)
    total = tl.zeros([rows], tl.float32)
    mixed = tl.zeros([rows, dim], tl.float32)
    whole = (keys - 1) // columns * columns
    for _ in tl.range(0, whole, columns):
        score = tl.dot(q, tl.load(k_at))
        higher = tl.maximum(most, tl.max(score, 1) * scale)
        weight = tl.math.exp2(score * scale - higher[:, None])
        fade = tl.math.exp2(most - higher)
        total = total * fade + tl.sum(weight, 1)
        mixed = tl.dot(weight.to(q.dtype), tl.load(v_at), mixed * fade[:, None])
        most = higher
        k_at += columns * k_token
        v_at += columns * v_token
    left = whole + column < keys
    score = tl.dot(q, tl.load(k_at, mask=left[None, :], other=0.0))
    score = tl.where(left[None, :], score * scale, -float("inf"))
    higher = tl.maximum(most, tl.max(score, 1))
    weight = tl.math.exp2(score - higher[:, None])
    fade = tl.math.exp2(most - higher)
    total = total * fade + tl.sum(weight, 1)
    mixed = tl.dot(weight.to(q.dtype), tl.load(v_at, mask=left[:, None], other=0.0), mixed * fade[:, None])
    out_at = out + group * out_group + head * out_head + row[:, None] * out_token + channel[None, :]
    tl.store(out_at, (mixed / total[:, None]).to(q.dtype), mask=row[:, None] < queries)


def attend(q: Tensor, k: Tensor, v: Tensor, rows: int, columns: int, warps: int, stages: int) -> Tensor:
    """See attention.scaled_dot_product; channels lie side by side in memory."""
    groups, heads, queries, dim = q.shape
    out = torch.empty((groups, queries, heads, dim), dtype=q.dtype, device=q.device).transpose(1, 2)
    strides = [stride for one in (q, k, v, out) for stride in one.stride()[:3]]
    _attend[(triton.cdiv(queries, rows), groups * heads)](
        q, k, v, out, *strides, heads, queries, k.shape[2], dim**-0.5 * math.log2(math.e),
        rows=rows, columns=columns, dim=dim, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out
