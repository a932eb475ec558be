"""Exact medians and quantiles over the part of a tensor that counts: batched, deterministic, without waiting for the
device to say how much that is."""

import torch
from torch import Tensor


def masked_quantile(values: Tensor, mask: Tensor, q: float) -> Tensor:
    """The ``q`` quantile (0 to 1, linear interpolation) of ``values`` (..., n) where ``mask`` (..., n); (...).

    Values under the mask must be finite. NaN where the mask is empty.
    """
    ranked = torch.where(mask, values, torch.inf).sort(dim=-1).values          # those that count come first
    count = mask.sum(dim=-1, keepdim=True)
    last = (count - 1).clamp(min=0)
    position = q * last.double()
    low = position.floor().long()
    high = torch.minimum(low + 1, last)
    between = torch.lerp(ranked.gather(-1, low), ranked.gather(-1, high), (position - low).to(values.dtype))
    return torch.where(count > 0, between, torch.nan).squeeze(-1)


def weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted median of ``values`` (..., n) with ``weights`` (..., n) >= 0; (...).

    Continuous in values and weights: each value stands at the middle of its share of the total weight, and the
    median is interpolated between the two that enclose one half. Values of weight zero may be anything. NaN where
    all weights are zero.
    """
    counts = weights > 0
    order = torch.where(counts, values, torch.inf).argsort(dim=-1)
    ranked = torch.where(counts, values, 0.0).gather(-1, order)
    share = weights.gather(-1, order).double()
    upto = share.cumsum(dim=-1)
    total = upto[..., -1:]
    middle = (upto - share / 2) / total
    # The last value that counts stands at one half or above, so ``high`` is one that counts.
    high = (middle < 0.5).sum(dim=-1, keepdim=True).clamp(max=values.shape[-1] - 1)
    low = (high - 1).clamp(min=0)
    below, above = middle.gather(-1, low), middle.gather(-1, high)
    step = torch.where(high > low, (0.5 - below) / (above - below), 0.0).to(values.dtype)
    median = torch.lerp(ranked.gather(-1, low), ranked.gather(-1, high), step)
    return torch.where(total > 0, median, torch.nan).squeeze(-1)
