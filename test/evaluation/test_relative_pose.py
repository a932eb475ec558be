"""Relative pose errors and AUC: by hand, and against the reference package's benchmark code."""

import random

import numpy as np
import pytest
import torch
from evaluation_helpers import random_poses, turn

from da3_ros.errors import InputError
from da3_ros.evaluation.relative_pose import RelativePoseErrors, benchmark_views, pose_auc, relative_pose_errors
from da3_ros.geometry.se3 import T_from, invert


def test_auc_by_hand():
    errors = RelativePoseErrors(np.array([0.5, 0.2, 2.5, 40.0]), np.array([0.1, 1.5, 0.0, 10.0]))
    # Larger errors 0.5, 1.5, 2.5, 40: below 1, 2, 3 degrees are 1, 2, 3 of 4.
    assert errors.auc(3) == pytest.approx((1 + 2 + 3) / 4 / 3)
    assert errors.auc(5) == pytest.approx((1 + 2 + 3 + 3 + 3) / 4 / 5)


def test_pair_errors_by_hand():
    true = np.stack([np.eye(4), T_from(np.eye(3), np.array([1.0, 0.0, 0.0]))])
    predicted = np.stack([np.eye(4), T_from(turn(20.0), 7.0 * turn(30.0) @ [1.0, 0.0, 0.0])])
    errors = relative_pose_errors(predicted, true)
    assert errors.rotation == pytest.approx([20.0])
    assert errors.translation == pytest.approx([30.0])  # whatever its length


def test_opposite_directions_are_one_and_no_direction_is_as_wrong_as_can_be():
    def views(t: list[float]) -> np.ndarray:
        return np.stack([np.eye(4), T_from(np.eye(3), np.array(t))])

    assert relative_pose_errors(views([-1.0, 0, 0]), views([1.0, 0, 0])).translation == pytest.approx([0.0])
    assert relative_pose_errors(views([0.0, 0, 0]), views([1.0, 0, 0])).translation == pytest.approx([90.0])


def test_world_and_unit_do_not_matter():
    true = invert(random_poses(6, seed=3))
    moved = true @ invert(random_poses(1, seed=4)[0])
    moved[:, :3, 3] *= 3.7
    errors = relative_pose_errors(moved, true)
    assert len(errors.rotation) == 15
    assert errors.rotation == pytest.approx(0.0, abs=1e-6) and errors.translation == pytest.approx(0.0, abs=1e-6)
    assert pose_auc(errors) == pytest.approx({3: 1.0, 5: 1.0, 15: 1.0, 30: 1.0})


@pytest.mark.parametrize("degrees", [0.5, 3.0, 25.0])
def test_equals_the_benchmark(reference_benchmark, degrees):
    generator = np.random.default_rng(5)
    true = invert(random_poses(12, seed=6))
    predicted = true.copy()
    for T in predicted:
        T[:3, :3] = turn(degrees * generator.normal(), "x") @ turn(degrees * generator.normal(), "y") @ T[:3, :3]
        T[:3, 3] += np.radians(degrees) * generator.normal(size=3)
    theirs = reference_benchmark.compute_pose(torch.from_numpy(predicted), torch.from_numpy(true))
    ours = pose_auc(relative_pose_errors(predicted, true))
    assert [ours[3], ours[5], ours[15], ours[30]] == pytest.approx(
        [theirs.auc03, theirs.auc05, theirs.auc15, theirs.auc30], abs=1e-9
    )
    assert 0.0 < ours[30] < 1.0


def test_of_long_recordings_the_benchmark_s_views_are_taken():
    random.seed(42)
    indices = list(range(250))
    random.shuffle(indices)
    assert benchmark_views(250) == sorted(indices[:100])
    assert benchmark_views(100) == list(range(100))


def test_poses_that_make_no_pairs_are_refused():
    with pytest.raises(InputError, match=r"\(1, 4, 4\).*make no pairs"):
        relative_pose_errors(np.eye(4)[None], np.eye(4)[None])
    with pytest.raises(InputError, match="not finite"):
        relative_pose_errors(np.full((2, 4, 4), np.nan), np.tile(np.eye(4), (2, 1, 1)))
