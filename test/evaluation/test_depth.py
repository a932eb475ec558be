"""Depth errors: hand-computed, and what the alignments must be blind to."""

import numpy as np
import pytest
import torch

from da3_ros.errors import InputError
from da3_ros.evaluation.depth import DepthPairs, depth_errors, errors_with, fit_depth, pair_depths

TRUE = torch.tensor([[1.0, 2.0], [4.0, 0.0]])


def test_errors_by_hand():
    predicted = torch.tensor([[1.2, 3.0], [4.0, 9.0]])  # ratios 1.2, 1.5, 1; the last pixel has no truth
    errors = depth_errors(pair_depths(predicted, TRUE))
    assert errors.abs_rel == pytest.approx((0.2 + 0.5 + 0.0) / 3)
    assert errors.rmse == pytest.approx(np.sqrt((0.04 + 1.0 + 0.0) / 3))
    assert (errors.delta1, errors.delta2, errors.delta3) == pytest.approx((2 / 3, 1.0, 1.0))  # 1.5 < 1.25^2
    assert errors.pixels == 3 and errors.covered == 1.0


def test_delta2_and_delta3_are_powers_of_delta1():
    errors = depth_errors(pair_depths(torch.tensor([1.24, 1.55, 1.94, 1.97]), torch.ones(4)))
    assert (errors.delta1, errors.delta2, errors.delta3) == (0.25, 0.5, 0.75)  # 1.25, 1.5625, 1.953125


def test_delta_counts_too_near_as_much_as_too_far():
    errors = depth_errors(pair_depths(torch.tensor([1.3, 1 / 1.3]), torch.ones(2)))
    assert (errors.delta1, errors.delta2) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("alignment", "scale", "shift"), [("median", 2.5, 0.0), ("scale", 2.5, 0.0), ("scale_shift", 2.5, -0.7)]
)
def test_alignment_finds_what_was_done_to_the_depth(alignment, scale, shift):
    true = torch.rand(1, 40, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 9 + 1
    errors = depth_errors(pair_depths((true - shift) / scale, true), alignment)
    assert (errors.scale, errors.shift) == pytest.approx((scale, shift))
    assert errors.abs_rel == pytest.approx(0.0, abs=1e-12) and errors.delta1 == 1.0


def test_each_alignment_is_the_best_of_its_kind():
    generator = torch.Generator().manual_seed(1)
    true = torch.rand(500, generator=generator) * 9 + 1
    pairs = pair_depths(0.4 * true + 0.3 * torch.rand(500, generator=generator) + 0.5, true)
    p, t = pairs.predicted.numpy(), pairs.true.numpy()
    assert fit_depth(pairs, "median")[0] == pytest.approx(np.median(t) / np.median(p))
    assert fit_depth(pairs, "scale")[0] == pytest.approx(np.linalg.lstsq(p[:, None], t, rcond=None)[0][0])
    both = np.linalg.lstsq(np.stack([p, np.ones_like(p)], axis=1), t, rcond=None)[0]
    assert fit_depth(pairs, "scale_shift") == pytest.approx(tuple(both))
    assert depth_errors(pairs, "scale_shift").rmse < depth_errors(pairs, "scale").rmse < depth_errors(pairs).rmse


def test_pixels_without_depth_or_truth_do_not_count_and_the_former_show_as_coverage():
    nan, inf = float("nan"), float("inf")
    predicted = torch.tensor([2.0, nan, inf, 0.0, 7.0, 7.0, 7.0, 7.0])
    true = torch.tensor([2.0, 2.0, 2.0, 2.0, nan, 0.0, 90.0, 2.0])
    mask = torch.tensor([True] * 7 + [False])
    errors = depth_errors(pair_depths(predicted, true, mask, max_depth=80.0))
    assert errors.pixels == 1 and errors.abs_rel == 0.0
    assert errors.covered == pytest.approx(1 / 4)


def test_depth_pushed_below_zero_by_the_shift_is_wrong_not_right():
    errors = errors_with(pair_depths(torch.tensor([1.0]), torch.tensor([1.0])), scale=1.0, shift=-2.0)
    assert (errors.delta1, errors.delta3) == (0.0, 0.0) and errors.abs_rel == pytest.approx(2.0)


def test_several_images_as_one():
    parts = [
        pair_depths(torch.tensor([1.0, float("nan")]), torch.tensor([2.0, 2.0])),
        pair_depths(torch.tensor([3.0, 4.0]), torch.tensor([6.0, 8.0])),
    ]
    errors = depth_errors(DepthPairs.joined(parts), "scale")
    assert errors.scale == pytest.approx(2.0) and errors.pixels == 3 and errors.covered == pytest.approx(3 / 4)


def test_nothing_to_compare_gives_no_number():
    nothing = depth_errors(pair_depths(torch.full((2,), torch.nan), torch.ones(2)), "median")
    assert np.isnan(nothing.abs_rel) and nothing.pixels == 0 and nothing.covered == 0.0
    flat = depth_errors(pair_depths(np.ones(5), np.arange(1.0, 6.0)), "scale_shift")
    assert np.isnan(flat.scale) and np.isnan(flat.rmse)


def test_sizes_that_differ_are_refused():
    with pytest.raises(InputError, match=r"\(2, 2\).*\(3,\).*one size"):
        pair_depths(TRUE, torch.ones(3))


def test_errors_leave_the_pixels_as_they_are():
    pairs = pair_depths(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 3.0, 5.0]))
    for alignment in ("none", "median", "scale", "scale_shift"):
        depth_errors(pairs, alignment)
    assert pairs.predicted.tolist() == [1.0, 2.0, 4.0]
    assert pairs.true.tolist() == [2.0, 3.0, 5.0]


def test_predictions_with_gradients_are_compared_too():
    errors = depth_errors(pair_depths(torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([2.0, 2.0])))
    assert errors.abs_rel == 0.25
