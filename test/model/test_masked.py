"""Medians and quantiles of the part that counts."""

import pytest
import torch

from da3_ros.model.masked import masked_quantile, weighted_median


@pytest.mark.parametrize("q", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_masked_quantile_is_the_quantile_of_what_counts(q):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 3, 101, generator=generator)
    mask = torch.rand(values.shape, generator=generator) < 0.4
    values = torch.where(mask, values, torch.nan)           # what does not count may be anything
    mask[1, 2] = False
    found = masked_quantile(values, mask, q)
    assert found[1, 2].isnan()
    for i, j in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]:
        torch.testing.assert_close(found[i, j], torch.quantile(values[i, j][mask[i, j]], q))


@pytest.mark.parametrize(
    ("values", "weights", "median"),
    [
        ([3.0], [0.2], 3.0),
        ([1.0, 2.0], [1.0, 1.0], 1.5),
        ([5.0, 1.0, 100.0], [1.0, 1.0, 1.0], 5.0),
        ([5.0, 1.0, 100.0, -7.0], [1.0, 1.0, 1.0, 0.0], 5.0),
        ([5.0, float("nan"), 1.0], [1.0, 0.0, 1.0], 3.0),
        ([1.0, 1.0, 9.0], [1.0, 1.0, 1.9], 1.0 + 8 * (0.5 - 1.5 / 3.9) / (2.95 / 3.9 - 1.5 / 3.9)),
        ([1.0, 2.0], [0.0, 0.0], float("nan")),
    ],
)
def test_weighted_median(values, weights, median):
    found = weighted_median(torch.tensor([values]), torch.tensor([weights]))
    torch.testing.assert_close(found, torch.tensor([median]), equal_nan=True)


def test_weighted_median_does_not_jump():
    values = torch.tensor([1.0, 2.0, 4.0])
    share = torch.linspace(0, 1, 1001)
    weights = torch.stack([1 - share, torch.full_like(share, 0.3), share], dim=-1)
    found = weighted_median(values.expand(1001, 3), weights)
    assert found.diff().min() >= 0 and found.diff().max() < 0.02
