"""Confidence calibration: by hand, and at its two extremes."""

import numpy as np
import pytest

from da3_ros.errors import InputError
from da3_ros.evaluation.calibration import confidence_calibration


def test_by_hand():
    found = confidence_calibration(np.array([4.0, 1.0, 2.0, 3.0, np.nan]), np.array([0.1, 0.9, 0.2, 0.4, 5.0]), bins=2)
    assert found.confidence == pytest.approx([1.5, 3.5])
    assert found.mean_error == pytest.approx([0.55, 0.25]) and found.median_error == pytest.approx([0.55, 0.25])
    assert found.kept_error == pytest.approx([0.4, 0.25])
    assert found.oracle_error == pytest.approx([0.4, 0.15])  # without 0.9 and 0.4
    assert found.ause == pytest.approx((0.0 + 0.1) / 2 / 0.4)
    # Ranks 4 1 2 3 and 1 4 2 3: Spearman is 1 - 6 * sum of squared differences / (n (n^2 - 1)).
    assert found.rank_correlation == pytest.approx(1 - 6 * (9 + 9 + 0 + 0) / (4 * 15))
    assert found.pixels == 4


def test_perfect_and_useless_confidence():
    error = np.random.default_rng(0).random(5000)
    perfect = confidence_calibration(1 / error, error)
    assert perfect.rank_correlation == pytest.approx(-1.0) and perfect.ause == pytest.approx(0.0, abs=1e-12)
    assert (np.diff(perfect.mean_error) < 0).all()
    useless = confidence_calibration(np.random.default_rng(1).random(5000), error)
    assert abs(useless.rank_correlation) < 0.05 and useless.ause > 0.3
    assert np.isnan(confidence_calibration(np.ones(5000), error).rank_correlation)


def test_equal_values_share_their_rank():
    """As scipy has it."""
    stats = pytest.importorskip("scipy.stats")
    random = np.random.default_rng(2)
    confidence, error = random.integers(1, 6, 300).astype(float), random.integers(0, 9, 300).astype(float)
    found = confidence_calibration(confidence, error).rank_correlation
    assert found == pytest.approx(stats.spearmanr(confidence, error).statistic, abs=1e-12)


def test_unequal_sizes_and_too_few_pixels_are_refused():
    with pytest.raises(InputError, match="differ in shape"):
        confidence_calibration(np.ones(4), np.ones(5))
    with pytest.raises(InputError, match="3 pixels"):
        confidence_calibration(np.ones(3), np.ones(3))
