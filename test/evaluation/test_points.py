"""Point cloud errors: by hand, and against the reference package's benchmark code."""

import numpy as np
import pytest

from da3_ros.errors import InputError
from da3_ros.evaluation.points import cloud_errors, thin_out


def test_errors_by_hand():
    true = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    predicted = np.array([[0.0, 0.1, 0], [1, 0, 0.3]])
    errors = cloud_errors(predicted, true, threshold=0.2)
    assert errors.accuracy == pytest.approx(0.2)
    to_predicted = [0.1, 0.3, np.sqrt(1.09), np.sqrt(4.09)]
    assert errors.completeness == pytest.approx(np.mean(to_predicted))
    assert errors.chamfer == pytest.approx((0.2 + np.mean(to_predicted)) / 2)
    assert (errors.precision, errors.recall) == (0.5, 0.25)
    assert errors.f1 == pytest.approx(1 / 3)


def test_equals_the_benchmark(reference_benchmark):
    generator = np.random.default_rng(0)
    predicted, true = generator.normal(size=(300, 3)), generator.normal(size=(500, 3))

    to_true = reference_benchmark.nn_correspondance(true, predicted)
    to_predicted = reference_benchmark.nn_correspondance(predicted, true)
    ours = cloud_errors(predicted, true, threshold=0.3)
    assert (ours.accuracy, ours.completeness) == pytest.approx((to_true.mean(), to_predicted.mean()))
    assert (ours.precision, ours.recall) == pytest.approx(((to_true < 0.3).mean(), (to_predicted < 0.3).mean()))


@pytest.mark.optional("open3d")
def test_equals_the_benchmark_with_its_thinning_out(reference_benchmark):
    generator = np.random.default_rng(1)
    predicted, true = generator.random((3000, 3)) + 100, generator.random((4000, 3)) + 100
    theirs = reference_benchmark.evaluate_3d_reconstruction(predicted, true, threshold=0.05, down_sample=0.08)
    ours = cloud_errors(predicted, true, threshold=0.05, voxel=0.08)
    assert (ours.accuracy, ours.completeness, ours.chamfer, ours.precision, ours.recall, ours.f1) == pytest.approx(
        (theirs["acc"], theirs["comp"], theirs["overall"], theirs["precision"], theirs["recall"], theirs["fscore"]),
        abs=1e-6,
    )
    assert 0.1 < ours.f1 < 0.9


def test_an_empty_cloud_finds_nothing():
    errors = cloud_errors(np.empty((0, 3)), np.zeros((4, 3)), threshold=1.0)
    assert errors.chamfer == np.inf and errors.f1 == 0.0 and errors.true_points == 4


def test_thinning_out_gives_the_mean_of_each_cube_far_from_the_origin_too():
    far = np.array([5_000.0, -4_000.0, 100.0])
    points = far + np.array([[0.0, 0, 0], [0.04, 0, 0], [0.2, 0, 0]])
    assert thin_out(points, 0.1) == pytest.approx(far + np.array([[0.02, 0, 0], [0.2, 0, 0]]), abs=1e-6)
    errors = cloud_errors(points, points, threshold=0.01, voxel=0.1)
    assert (errors.predicted_points, errors.chamfer) == (2, 0.0)


def test_points_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        cloud_errors(np.array([[0.0, 0, np.nan]]), np.zeros((1, 3)), threshold=1.0)
