"""Triton kernels: the lower median without sorting. One row of ``values`` is one set of numbers, NaN not among them.

Digit by digit, eight bits at a time, it is counted how often each value of a digit comes up among the numbers that
agree with the median in the digits before; the counts give the median's next digit (a radix selection).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_BLOCK = 2048  # numbers of a program
_PASSES = 4


@triton.jit
def _digit(counts, rank):
    """The digit of the number of this ``rank`` among those counted, and its rank among those of the same digit."""
    digits = tl.arange(0, 256)
    count = tl.load(counts + digits)
    digit = tl.sum((tl.cumsum(count, 0) <= rank).to(tl.int32), 0)
    return digit, rank - tl.sum(tl.where(digits < digit, count, 0), 0)


@triton.jit
def count_kernel(values, counts, n, PASS: tl.constexpr, BLOCK: tl.constexpr):
    """Counts the digit number PASS, the highest being 0, of the numbers that agree with the median before it.

    ``counts`` (rows, 4, 256) int32.
    """
    row = tl.program_id(1)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(values + row * n + at, mask=at < n, other=float("nan"))
    bits = value.to(tl.int32, bitcast=True)
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # in the order of the numbers
    matches = value == value
    counts += row * 1024
    if PASS > 0:
        digits = tl.arange(0, 256)
        rank = tl.maximum(tl.sum(tl.load(counts + digits), 0) - 1, 0) // 2
        agreed = 0
        for i in tl.static_range(PASS):
            digit, rank = _digit(counts + i * 256, rank)
            agreed = agreed * 256 + digit - (128 if i == 0 else 0)  # the highest one has the sign
        matches = matches & ((key >> (32 - 8 * PASS)) == agreed)
    found = (key >> (24 - 8 * PASS)) & 255
    if PASS == 0:
        found = found ^ 128
    bins = tl.arange(0, 256)
    count = tl.histogram(tl.where(matches, found, 0), 256)
    count -= tl.where(bins == 0, BLOCK - tl.sum(matches.to(tl.int32), 0), 0)
    tl.atomic_add(counts + PASS * 256 + bins, count, mask=count > 0)


@triton.jit
def median_kernel(counts, out):
    """The number that the counts of all passes give, NaN where nothing was counted."""
    row = tl.program_id(0)
    counts += row * 1024
    total = tl.sum(tl.load(counts + tl.arange(0, 256)), 0)
    rank = tl.maximum(total - 1, 0) // 2
    key = tl.zeros((), tl.int32)
    for i in tl.static_range(4):
        digit, rank = _digit(counts + i * 256, rank)
        key = key * 256 + digit - (128 if i == 0 else 0)
    bits = key ^ ((key >> 31) & 0x7FFFFFFF)
    tl.store(out + row, tl.where(total > 0, bits.to(tl.float32, bitcast=True), float("nan")))


def lower_median(values: torch.Tensor) -> torch.Tensor:
    """Lower median (rows,) of each row of ``values`` (rows, n) float32, without NaN; NaN for a row of NaN."""
    rows, n = values.shape
    values = values.contiguous()
    counts = torch.zeros((rows, _PASSES, 256), dtype=torch.int32, device=values.device)
    out = torch.empty(rows, dtype=torch.float32, device=values.device)
    for number in range(_PASSES):
        count_kernel[(triton.cdiv(n, _BLOCK), rows)](values, counts, n, PASS=number, BLOCK=_BLOCK)
    median_kernel[(rows,)](counts, out)
    return out
