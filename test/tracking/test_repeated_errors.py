"""What a network gets wrong alike in all windows is in the covariance of odometry, though no window shows it."""

from itertools import pairwise

import numpy as np
import pytest
import window_simulation as sim

from da3_ros.evaluation.drive_score import starting_at
from da3_ros.evaluation.simulated_drives import Drive, Scenario
from da3_ros.geometry.se3 import T_from, rotation_vector
from da3_ros.tracking import repeated_errors
from da3_ros.tracking.repeated_errors import RepeatedErrors

DEPTH = 4.0
TURN, WAY = 0.004, 0.006  # what single views are off: radians, share of the depth
NOISE = sim.Noise(rotation_rad=TURN, translation=WAY * DEPTH)
UNKNOWN = np.full(2, np.nan)


def rotation_by(vector):
    x, y, z = vector
    angle = np.linalg.norm(vector)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sinc(angle / np.pi) * cross + np.sinc(angle / 2 / np.pi) ** 2 / 2 * cross @ cross


def seen_wrongly(way, by_turn, by_way, turn=TURN, shift=WAY, depth=DEPTH):
    """``way`` as a network has it whose errors of turns and displacements are one and the same linear ones all along:
    matrices (3, 6)."""
    seen = [way[0]]
    for before, after in pairwise(way):
        moved, turned = after[:3, 3] - before[:3, 3], rotation_vector(after[:3, :3] @ before[:3, :3].T)
        wrong = turn * by_turn @ [*(5 * turned), *(8 * moved / depth)]
        off = shift * depth * by_way @ [*(2 * turned), *(12 * moved / depth)]
        bent = seen[-1][:3, :3] @ before[:3, :3].T
        R = bent @ rotation_by(wrong) @ rotation_by(turned) @ before[:3, :3]
        seen.append(T_from(R, seen[-1][:3, 3] + bent @ (moved + off)))
    return seen


def errors(seen, true):
    """(6,) of the last pose: of position, and rotation vector."""
    return [*(seen[-1][:3, 3] - true[-1][:3, 3]), *rotation_vector(seen[-1][:3, :3] @ true[-1][:3, :3].T)]


def claimed(way, monkeypatch, **more):
    """Covariance at the end of ``way`` with errors of TURN and WAY, nothing being forgotten."""
    monkeypatch.setattr(repeated_errors, "_MEMORY", 1e9)
    monkeypatch.setattr(repeated_errors, "_GUESS", np.array([TURN, WAY]))
    repeated = RepeatedErrors()
    for T in way:
        covariance = repeated.step(T, DEPTH, UNKNOWN, **more)
    return covariance


WAYS = [sim.circle(16, per_step=0.1), sim.straight(16, 3.0), sim.turning(16, 0.1)]
NAMES = ["circle", "straight", "turning"]


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_the_covariance_is_that_of_ways_that_are_seen_wrongly_alike_all_along(way, monkeypatch):
    """Errors are linear in 36 independent numbers."""
    small = 1e-3
    found = [errors(seen_wrongly(way, *small * one.reshape(2, 3, 6)), way) for one in np.eye(36)]
    expected, said = np.transpose(found) @ found / small**2, claimed(way, monkeypatch)
    scale = np.sqrt(np.diag(expected)) + 1e-9
    np.testing.assert_allclose(said / np.outer(scale, scale), expected / np.outer(scale, scale), atol=0.05)


def test_errors_are_as_large_as_what_single_views_are_off(monkeypatch):
    """Twice as much means four times the variance; a robot that stands adds none."""
    sizes = []
    for factor in (1.0, 2.0):
        repeated = RepeatedErrors()
        for _ in range(300):
            standing = repeated.step(np.eye(4), DEPTH, np.square(factor * np.array([TURN, WAY * DEPTH])))
        assert not standing.any()
        sizes.append(np.trace(repeated.step(T_from(sim.yaw(0.1), np.array([0.5, 0, 0])), DEPTH, UNKNOWN)))
    assert sizes[1] == pytest.approx(4 * sizes[0], rel=0.2)


def test_in_a_way_back_errors_are_taken_back_and_after_a_long_one_they_are_others(monkeypatch):
    there = sim.straight(10, 4.0)
    assert np.trace(claimed([*there, *there[::-1]], monkeypatch)) < 0.01 * np.trace(claimed(there, monkeypatch))
    monkeypatch.undo()
    repeated, way = RepeatedErrors(), [T_from(np.eye(3), np.array([x, 0.0, 0])) for x in range(0, 1201, 4)]
    variances = np.array([repeated.step(T, DEPTH, UNKNOWN)[0, 0] for T in way])
    assert variances[300] / variances[60] == pytest.approx(5.0, rel=0.2)  # as the way, not as its square


def test_cameras_of_a_rig_that_stand_close_tell_lengths_badly(monkeypatch):
    near, far = (claimed(sim.straight(10), monkeypatch, rig_spread=spread)[0, 0] for spread in (0.02, 200.0))
    assert near > 2 * far


def test_it_turns_with_the_frame(monkeypatch):
    """As if odom had had these axes from the beginning on."""
    T_new_old = T_from(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0], np.zeros(3))
    T_new_old[:3, 0] *= np.linalg.det(T_new_old[:3, :3])
    old, new = RepeatedErrors(), RepeatedErrors()
    for T in sim.circle(30):
        old.step(T, DEPTH, UNKNOWN)
        new.step(T_new_old @ T, DEPTH, UNKNOWN)
    old.realign(T_new_old[:3, :3], T_new_old @ sim.circle(30)[-1])
    end = T_new_old @ T_from(sim.yaw(1.0), np.array([1.0, 2, 3]))
    np.testing.assert_allclose(old.step(end, DEPTH, UNKNOWN), new.step(end, DEPTH, UNKNOWN), atol=1e-12)


def nees(way, seeds, depth, repeats=True):
    """Of drives in windows of a network that sees the way wrongly, alike all along; ``depth`` is what the hall's is."""
    found = []
    for seed in range(seeds):
        # Ten windows of guesses are among those that tell how much single views are off.
        wrong = seen_wrongly(way, *np.random.default_rng(seed).normal(size=(2, 3, 6)), 0.0055, 0.0077, depth)
        drive = Drive(Scenario("", wrong, sim.STEREO, "metric_model", noise=NOISE, repeats=repeats), seed)
        drive.true = starting_at(np.stack(way), drive.estimated[0])
        found.append(np.nanmean(drive.nees()[5:]))
    return np.mean(found) / 6


def test_a_drive_says_that_it_may_be_off_by_what_repeats():
    way = sim.circle(16, per_step=0.08)
    assert nees(way, 1, 3.5, repeats=False) > 4.0 > 2.0 > nees(way, 1, 3.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "depth"), [(sim.circle(50), 3.5), (sim.straight(50, 0.9), 5.5), (sim.turning(50), 4.5)], ids=NAMES
)
def test_normalised_errors_squared_are_near_their_expectation_where_windows_repeat_errors(way, depth):
    assert 1 / 2 < nees(way, 6, depth) < 2


def test_a_pose_that_is_none_has_no_covariance_and_counts_for_nothing():
    with_it, without = RepeatedErrors(), RepeatedErrors()
    single = np.array([1e-4, 1e-4])
    for errors in (with_it, without):
        errors.step(np.eye(4), 2.0, single)
    assert np.isnan(with_it.step(np.full((4, 4), np.nan), 2.0, single)).all()
    ahead = T_from(np.eye(3), np.array([1.0, 0.0, 0.0]))
    np.testing.assert_array_equal(with_it.step(ahead, 2.0, single), without.step(ahead, 2.0, single))


def test_one_wrong_depth_does_not_decide_about_the_rest_of_the_way():
    single, ahead = np.array([1e-5, 1e-4]), T_from(np.eye(3), np.array([0.1, 0.0, 0.0]))
    found = []
    for wrong in (2.0, 0.04):
        errors, T = RepeatedErrors(), np.eye(4)
        for depth in (2.0, 2.0, wrong, 2.0, 2.0):
            covariance = errors.step(T, depth, single)
            T = T @ ahead
        found.append(np.sqrt(np.diag(covariance)))
    assert (found[1] < 1.5 * found[0]).all()
