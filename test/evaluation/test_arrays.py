"""Medians by one partition, and what counts as depth."""

import numpy as np
import pytest

from da3_ros.evaluation.arrays import is_depth, middle_values


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1001, 1002])
def test_middle_values_are_those_of_the_sorted_array(count):
    values = np.random.default_rng(count).normal(size=count)
    given = values.copy()
    ranked = np.sort(values)
    assert middle_values(values) == (ranked[(count - 1) // 2], ranked[count // 2])
    assert np.array_equal(values, given)  # the caller's own order stays


def test_depth_is_finite_and_in_front():
    values = np.array([[1.0, 0.0, -1.0], [np.nan, np.inf, -np.inf]], np.float32)
    assert is_depth(values).tolist() == [[True, False, False], [False, False, False]]
