"""Trajectory errors: association by time, alignments, and hand-computed ATE and RPE."""

import sys

import numpy as np
import pytest
from evaluation_helpers import SECOND, START_NS, random_poses, trajectory, turn

from da3_ros.errors import InputError, UnavailableError
from da3_ros.evaluation.trajectory import (
    Trajectory,
    absolute_error,
    align,
    associate,
    continuity,
    relative_error,
    scale_error,
)
from da3_ros.geometry.se3 import T_from

BEND = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0], [2, 2, 0.5]])


def test_poses_are_paired_with_the_nearest_in_time_within_the_tolerance():
    truth = trajectory(np.arange(30.0).reshape(10, 3), period_s=0.1)
    stamps = START_NS + np.array([4_000_000, 96_000_000, 103_000_000, 350_000_000, 901_000_000])
    estimate = Trajectory(stamps, np.tile(np.eye(4), (5, 1, 1)))
    found, true = associate(estimate, truth, tolerance_ns=10_000_000)
    # 96 and 103 ms both are nearest to 100 ms: the nearer one gets it; 350 ms has nothing within 10 ms.
    assert (found.stamps_ns - START_NS).tolist() == [4_000_000, 103_000_000, 901_000_000]
    assert (true.stamps_ns - START_NS).tolist() == [0, 100_000_000, 900_000_000]


def test_one_pose_is_found_by_its_stamp():
    found = trajectory(BEND).nearest(START_NS + 190_000_000, 20_000_000)
    assert found[:3, 3] == pytest.approx(BEND[2])
    assert trajectory(BEND).nearest(START_NS + 150_000_000, 20_000_000) is None


def test_nanoseconds_of_today_s_epoch_are_told_apart():
    truth = trajectory(np.zeros((2, 3)), period_s=1e-9)
    found, true = associate(truth, truth, tolerance_ns=0)
    assert len(found) == 2 and (found.stamps_ns == true.stamps_ns).all()


def test_clocks_that_never_meet_are_said():
    with pytest.raises(InputError, match=r"within 0.02 s .* 1700000000.000 to .* truth from 1700009999.000"):
        associate(trajectory(BEND), trajectory(BEND, start_ns=START_NS + 9999 * SECOND), 20_000_000)


def test_ate_by_hand():
    shifted = BEND + [[0.3, 0, 0], [0, 0.4, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0.5]]
    errors = absolute_error(trajectory(shifted), trajectory(BEND), "none")
    assert errors.values == pytest.approx([0.3, 0.4, 0.0, 0.0, 0.5])
    assert errors.rmse == pytest.approx(np.sqrt((0.09 + 0.16 + 0.25) / 5))
    assert (errors.mean, errors.median, errors.largest) == pytest.approx((0.24, 0.3, 0.5))


@pytest.mark.parametrize(("alignment", "vanishes"), [("none", False), ("se3", False), ("sim3", True)])
def test_alignment_undoes_rotation_translation_and_for_sim3_scale(alignment, vanishes):
    moved = trajectory(2.5 * BEND @ turn(40.0).T + [7.0, -3.0, 1.0])
    error = absolute_error(moved, trajectory(BEND), alignment).rmse
    assert (error < 1e-9) == vanishes
    if vanishes:
        assert align(moved, trajectory(BEND), alignment).scale == pytest.approx(1 / 2.5)


def test_first_pose_alignment_carries_rotation_too():
    truth = trajectory(BEND)
    T = T_from(turn(90.0), np.array([5.0, 0, 0]))
    moved = Trajectory(truth.stamps_ns, T @ truth.T_world_body)
    assert absolute_error(moved, truth, "first").rmse < 1e-9
    aligned = align(moved, truth, "first").poses(moved.T_world_body)
    assert aligned == pytest.approx(truth.T_world_body)


def test_rpe_by_hand():
    T = trajectory(BEND).T_world_body
    T[2:, :3, :3] = turn(10.0)  # one wrong turn between the second and the third pose
    T[3:, :3, 3] += turn(10.0) @ [0.1, 0, 0]
    truth = trajectory(BEND)
    estimate = Trajectory(truth.stamps_ns, T)
    translation, rotation = relative_error(estimate, truth)
    assert rotation.values == pytest.approx([0, 10, 0, 0], abs=1e-6)
    step = turn(10.0).T @ (BEND[3] - BEND[2] + turn(10.0) @ [0.1, 0, 0]) - (BEND[3] - BEND[2])
    assert translation.values[2] == pytest.approx(np.linalg.norm(step))


def test_rpe_over_metres_of_the_true_path():
    straight = np.stack([np.arange(0.0, 20.0, 0.5), np.zeros(40), np.zeros(40)], axis=1)
    translation, _ = relative_error(trajectory(1.02 * straight), trajectory(straight), delta=5.0, unit="metres")
    assert translation.values[:-1] == pytest.approx(0.1)  # 2 % of 5 m
    assert translation.values[-1] == pytest.approx(0.09)  # of the last 4.5 m
    with pytest.raises(InputError, match="100 metres apart"):
        relative_error(trajectory(straight), trajectory(straight), delta=100.0, unit="metres")


def test_scale_error_is_relative_and_signed():
    assert scale_error(trajectory(1.05 * BEND), trajectory(BEND)) == pytest.approx(0.05)
    assert scale_error(trajectory(0.9 * BEND), trajectory(BEND)) == pytest.approx(-0.1)


def test_standing_still_determines_no_scale():
    still = trajectory(np.zeros((5, 3)))
    with pytest.raises(InputError, match="stand still"):
        align(still, still, "sim3")


def test_stamps_must_increase():
    with pytest.raises(InputError, match="do not increase"):
        Trajectory(np.array([2, 1]), random_poses(2, 0))


def test_without_evo_the_mend_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "evo.core.metrics", None)
    with pytest.raises(UnavailableError, match="evo.*pip install evo"):
        absolute_error(trajectory(BEND), trajectory(BEND), "sim3")


def test_rotations_with_few_digits_are_compared_too():
    """Of KITTI files, and products of many float32 rotations: evo alone refuses them."""
    true = random_poses(6, seed=3)
    rough = true.copy()
    rough[:, :3, :3] = np.round(true[:, :3, :3], 4)
    stamps = np.arange(6, dtype=np.int64)
    shift, angle = relative_error(Trajectory(stamps, rough), Trajectory(stamps, true))
    assert angle.largest == pytest.approx(0.0, abs=0.02) and shift.largest < 1e-3


def test_continuity_is_that_of_steps_whatever_the_world_of_the_estimate():
    """The estimate's world is turned by 90 degrees; its fourth step goes 0.3 m too far to the left, the last stands."""
    places = np.array([[0.0, 0, 0], [0.5, 0, 0], [1, 0, 0], [1.5, 0, 0], [2, 0, 0], [2.5, 0, 0]])
    off = places + np.array([[0.0, 0, 0]] * 4 + [[0, 0.3, 0], [-0.5, 0.3, 0]])
    estimate = Trajectory(trajectory(off).stamps_ns, T_from(turn(90), np.zeros(3)) @ trajectory(off).T_world_body)
    found = continuity(estimate, trajectory(places))
    assert found.largest_step == pytest.approx(np.hypot(0.5, 0.3)) and found.true_step == pytest.approx(0.5)
    assert found.largest_difference == pytest.approx(0.5)  # of the last step
    halved = continuity(estimate, trajectory(places), scale=0.5)
    assert halved.largest_step == pytest.approx(found.largest_step / 2)
    with pytest.raises(InputError, match="no step"):
        continuity(estimate[:1], trajectory(places)[:1])
