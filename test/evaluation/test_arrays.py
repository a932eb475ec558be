"""Medians by one partition, and what counts as depth."""

import numpy as np
import pytest

from da3_ros.evaluation.arrays import is_depth, middle_values


@pytest.mark.parametrize("odd", [0, 1])
def test_middle_values_are_those_of_the_sorted_array(odd):
    for half in range(1 - odd, 300):  # how a partition leaves the rest depends on the values
        values = np.random.default_rng(half).permutation(2 * half + odd) % (3 * half // 2 + 1.0)
        given = values.copy()
        ranked = np.sort(values)
        assert middle_values(values) == (ranked[(len(values) - 1) // 2], ranked[len(values) // 2])
        assert np.array_equal(values, given)  # the caller's own order stays


def test_depth_is_finite_and_in_front():
    values = np.array([[1.0, 0.0, -1.0], [np.nan, np.inf, -np.inf]], np.float32)
    assert is_depth(values).tolist() == [[True, False, False], [False, False, False]]
