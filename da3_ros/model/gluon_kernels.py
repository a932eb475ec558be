"""A kernel for Hopper in Gluon, Triton's lower level. Import only where Triton has it; it compiles on Hopper alone."""

import math

import torch
import triton
from torch import Tensor
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

_barrier = gl.thread_barrier if hasattr(gl, "thread_barrier") else gl.barrier       # its name since Triton 3.7


@gluon.jit
def _softmax(score, most, total, scale):
    higher = gl.maximum(most, gl.max(score, axis=1) * scale)
    weight = gl.exp2(score * scale - higher[:, None])
    fade = gl.exp2(most - higher)
    return weight, fade, higher, total * fade + gl.sum(weight, axis=1)


@gluon.jit
def _fetch(
    desc, bars, at, place, block, blocks, group, channel,
    COLUMNS: gl.constexpr, DIM: gl.constexpr, STAGES: gl.constexpr,
):  # fmt: skip
    """Begin to load a block of keys or values into its slot, if there is such a block."""
    slot = block % STAGES
    there = block < blocks
    mbarrier.expect(bars.index(at + slot), COLUMNS * DIM * 2, pred=there)
    tma.async_copy_global_to_shared(
        desc, [group, block * COLUMNS, channel], bars.index(at + slot), place.index(slot), pred=there
    )


@gluon.jit
def _advance(
    block, blocks, group, channel, keys, scale, q, p, mixed, most, total, k_desc, v_desc, k_slots, v_slots, bars,
    COLUMNS: gl.constexpr, DIM: gl.constexpr, STAGES: gl.constexpr, LAST: gl.constexpr,
    SCORES: gl.constexpr, MIXED: gl.constexpr, WEIGHTS: gl.constexpr,
):  # fmt: skip
    """Scores of the block after ``block``, and their softmax, while the weights p of ``block`` mix its values."""
    following = block + 1
    nothing = gl.zeros([most.shape[0], COLUMNS], gl.float32, SCORES)
    mbarrier.wait(bars.index(following % STAGES), (following // STAGES) & 1)
    k = k_slots.index(following % STAGES).reshape([COLUMNS, DIM]).permute((1, 0))
    scoring = warpgroup_mma(q, k, nothing, use_acc=False, is_async=True)
    mbarrier.wait(bars.index(STAGES + block % STAGES), (block // STAGES) & 1)
    mixing = warpgroup_mma(p, v_slots.index(block % STAGES).reshape([COLUMNS, DIM]), mixed, is_async=True)
    score = warpgroup_mma_wait(1, deps=[scoring])
    if LAST:
        column = following * COLUMNS + gl.arange(0, COLUMNS, gl.SliceLayout(0, SCORES))
        score = gl.where((column < keys)[None, :], score, -float("inf"))
    weight, fade, most, total = _softmax(score, most, total, scale)
    mixed, p = warpgroup_mma_wait(0, deps=[mixing, p])
    _barrier()
    if not LAST:
        _fetch(k_desc, bars, 0, k_slots, following + STAGES, blocks, group, channel, COLUMNS, DIM, STAGES)
        _fetch(v_desc, bars, STAGES, v_slots, block + STAGES, blocks, group, channel, COLUMNS, DIM, STAGES)
    p = gl.convert_layout(weight.to(v_desc.dtype), WEIGHTS)
    mixed = mixed * gl.convert_layout(fade, gl.SliceLayout(1, MIXED))[:, None]
    return p, mixed, most, total


@gluon.jit
def _attend(
    q_desc, k_desc, v_desc, out, out_group, out_head, out_token, heads, queries, keys, scale,
    ROWS: gl.constexpr, COLUMNS: gl.constexpr, DIM: gl.constexpr, STAGES: gl.constexpr, WARPS: gl.constexpr,
):  # fmt: skip
    """Attention with a running softmax (Dao 2022) of ROWS queries of one head to all keys of their group, COLUMNS at
    a time. The tensor cores work on scores and values of neighbouring blocks while the exponentials of one are taken
    (Shah 2024). ``scale`` holds log2(e) too. Keys after the group's last, of which only the last block has any, get no
    weight; their values are zeros, since no weight makes another group's NaN nothing.
    """
    SCORES: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, COLUMNS, 16])
    MIXED: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, DIM, 16])
    WEIGHTS: gl.constexpr = gl.DotOperandLayout(0, MIXED, 2)
    group = gl.program_id(1) // heads
    head = gl.program_id(1) % heads
    row = gl.program_id(0) * ROWS
    channel = head * DIM
    blocks = gl.cdiv(keys, COLUMNS)
    half: gl.constexpr = q_desc.dtype
    q_slot = gl.allocate_shared_memory(half, [1, ROWS, DIM], q_desc.layout)
    k_slots = gl.allocate_shared_memory(half, [STAGES, 1, COLUMNS, DIM], k_desc.layout)
    v_slots = gl.allocate_shared_memory(half, [STAGES, 1, COLUMNS, DIM], v_desc.layout)
    bars = gl.allocate_shared_memory(gl.int64, [2 * STAGES + 1, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(2 * STAGES + 1):
        mbarrier.init(bars.index(i), count=1)
    mbarrier.expect(bars.index(2 * STAGES), ROWS * DIM * 2)
    tma.async_copy_global_to_shared(q_desc, [group, row, channel], bars.index(2 * STAGES), q_slot)
    for block in gl.static_range(STAGES):
        _fetch(k_desc, bars, 0, k_slots, block, blocks, group, channel, COLUMNS, DIM, STAGES)
        _fetch(v_desc, bars, STAGES, v_slots, block, blocks, group, channel, COLUMNS, DIM, STAGES)
    mbarrier.wait(bars.index(2 * STAGES), 0)
    nothing = gl.zeros([ROWS, COLUMNS], gl.float32, SCORES)
    mbarrier.wait(bars.index(0), 0)
    q = q_slot.reshape([ROWS, DIM])
    k = k_slots.index(0).reshape([COLUMNS, DIM]).permute((1, 0))
    scoring = warpgroup_mma(q, k, nothing, use_acc=False, is_async=True)
    score = warpgroup_mma_wait(0, deps=[scoring])
    _barrier()
    _fetch(k_desc, bars, 0, k_slots, STAGES, blocks, group, channel, COLUMNS, DIM, STAGES)
    most = gl.full([ROWS], -float("inf"), gl.float32, gl.SliceLayout(1, SCORES))
    total = gl.full([ROWS], 0.0, gl.float32, gl.SliceLayout(1, SCORES))
    column = gl.arange(0, COLUMNS, gl.SliceLayout(0, SCORES))
    score = gl.where((column < keys)[None, :], score, -float("inf"))
    weight, _, most, total = _softmax(score, most, total, scale)
    p = gl.convert_layout(weight.to(half), WEIGHTS)
    mixed = gl.zeros([ROWS, DIM], gl.float32, MIXED)
    for block in range(blocks - 2):
        p, mixed, most, total = _advance(
            block, blocks, group, channel, keys, scale, q, p, mixed, most, total, k_desc, v_desc, k_slots, v_slots,
            bars, COLUMNS, DIM, STAGES, False, SCORES, MIXED, WEIGHTS,
        )  # fmt: skip
    if blocks > 1:
        p, mixed, most, total = _advance(
            blocks - 2, blocks, group, channel, keys, scale, q, p, mixed, most, total, k_desc, v_desc, k_slots, v_slots,
            bars, COLUMNS, DIM, STAGES, True, SCORES, MIXED, WEIGHTS,
        )  # fmt: skip
    last = blocks - 1
    mbarrier.wait(bars.index(STAGES + last % STAGES), (last // STAGES) & 1)
    mixing = warpgroup_mma(p, v_slots.index(last % STAGES).reshape([COLUMNS, DIM]), mixed, is_async=True)
    mixed = warpgroup_mma_wait(0, deps=[mixing])
    mixed = mixed / gl.convert_layout(total, gl.SliceLayout(1, MIXED))[:, None]
    rows = row + gl.arange(0, ROWS, gl.SliceLayout(1, MIXED))
    channels = gl.arange(0, DIM, gl.SliceLayout(0, MIXED))
    place = out + group * out_group + head * out_head + rows[:, None] * out_token + channels[None, :]
    gl.store(place, mixed.to(half), mask=(rows < queries)[:, None])


def attend(q: Tensor, k: Tensor, v: Tensor, rows: int, columns: int, warps: int, stages: int) -> Tensor:
    """See attention.scaled_dot_product. What does not lie in memory as ``_tokens`` needs it is copied first."""
    groups, heads, queries, dim = q.shape
    out = torch.empty((groups, queries, heads, dim), dtype=q.dtype, device=q.device).transpose(1, 2)
    _attend[(triton.cdiv(queries, rows), groups * heads)](
        _tokens(q, rows), _tokens(k, columns), _tokens(v, columns), out, *out.stride()[:3], heads, queries, k.shape[2],
        dim**-0.5 * math.log2(math.e), ROWS=rows, COLUMNS=columns, DIM=dim, STAGES=stages, WARPS=warps, num_warps=warps,
    )  # fmt: skip
    return out


def _tokens(x: Tensor, rows: int) -> TensorDescriptor:
    """x (G, heads, T, d) as (G, T, heads * d), of which ``rows`` and d channels of one group are loaded at a time.

    Blocks at the end of a group hold zeros after its last token.
    """
    groups, heads, tokens, dim = x.shape
    sixteen_bytes = 16 // x.element_size()
    suits = x.stride(3) == 1 and (heads == 1 or x.stride(1) == dim) and not x.data_ptr() % 16
    if not suits or x.stride(2) % sixteen_bytes or (groups > 1 and x.stride(0) % sixteen_bytes):
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    dtype = gl.float16 if x.dtype == torch.float16 else gl.bfloat16
    block = [1, rows, dim]
    layout = gl.NVMMASharedLayout.get_default_for(block, dtype)
    strides = [x.stride(0) if groups > 1 else tokens * x.stride(2), x.stride(2), 1]
    return TensorDescriptor(x, [groups, tokens, heads * dim], strides, block, layout)
