"""Separable resampling of batches."""

import numpy as np
import pytest
import torch

from da3_ros.geometry.resample import BatchTaps, area_matrix, cubic_matrix, resample, to_taps


def test_batch_of_different_boxes_equals_dense_matrices():
    images = torch.rand(3, 30, 40, 2)
    boxes = [(0.0, 30.0, 0.0, 40.0), (3.3, 20.1, 5.7, 30.0), (0.0, 12.0, 20.0, 20.0)]
    rows = [area_matrix(30, 10, top, height) for top, height, _, _ in boxes]
    columns = [area_matrix(40, 16, left, width) for _, _, left, width in boxes]
    found = resample(
        images,
        BatchTaps.stack([to_taps(matrix) for matrix in rows], 30, torch.device("cpu")),
        BatchTaps.stack([to_taps(matrix) for matrix in columns], 40, torch.device("cpu")),
    )
    expected = np.einsum("byi,bijc,bxj->bcyx", np.stack(rows), images.numpy(), np.stack(columns))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("make", [area_matrix, cubic_matrix])
@pytest.mark.parametrize(
    ("n_in", "n_out", "start", "extent"), [(50, 20, 0, 50), (50, 70, 2.5, 40), (9, 9, 0, 9), (7, 1, 0, 7)]
)
def test_weights_sum_to_one_and_keep_a_ramp(make, n_in, n_out, start, extent):
    matrix = make(n_in, n_out, start, extent)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    if make is area_matrix and extent / n_out < 1:
        return  # areas smaller than a pixel are constant within it
    centres = start + (np.arange(n_out) + 0.5) * extent / n_out - 0.5
    inner = (centres > 1) & (centres < n_in - 3)
    np.testing.assert_allclose((matrix @ np.arange(n_in))[inner], centres[inner], atol=0.1)


def test_equal_size_changes_nothing():
    for make in (area_matrix, cubic_matrix):
        np.testing.assert_allclose(make(12, 12, 0.0, 12.0), np.eye(12), atol=1e-12)
