"""What is told is continuous for each camera: what was left out of the body's pose does not come back in one step."""

import numpy as np
import pytest
import window_simulation as sim
from test_body import RIG, Drive
from test_unusable_windows import Drive as Later

from da3_ros.geometry.se3 import T_from, invert

ROUGH = sim.Noise(depth=0.05, rotation_rad=0.01, translation=0.05)
RIGHT = {"right": RIG["right"]}


def left_out(drive, number, camera="left"):
    """(3,) from where a camera of the newest set is kept to where it is told to be."""
    told = drive.camera(number, camera)
    return (told - invert(drive.steps[number].report.T_told_kept) @ told)[:3, 3]


def assert_fades(drive, first, last, camera="left"):
    """Of what is left out at step ``first - 1``, some is at each of the next ones, and none jumps away from it."""
    before = left_out(drive, first - 1, camera)
    assert np.linalg.norm(before) > 0.01
    for number in range(first, last):
        now = left_out(drive, number, camera)
        assert np.linalg.norm(now - before) < 0.9 * np.linalg.norm(before), number
        before = now


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_cameras_do_not_jump_while_the_base_has_none(seed):
    """The only one whose place is known drops out, and comes back."""
    gone = {step: {"right"} for step in range(14, 17)}
    drive = Drive(sim.circle(19), {0: RIGHT}, missing=gone, noise=ROUGH, seed=seed)
    assert drive.statuses("no_base") == [14, 15, 16]
    assert_fades(drive, 14, 18)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_extrinsics_that_are_published_anew_move_the_base_and_no_camera(seed):
    """Known better by 0.2 m."""
    by = T_from(np.eye(3), np.array([0.2, 0.0, 0.0]))
    anew = {camera: by @ T for camera, T in RIG.items()}
    drive = Drive(sim.circle(17), {0: RIG, 14: anew}, noise=ROUGH, seed=seed)
    assert_fades(drive, 14, 16)
    there = Drive(sim.circle(17), {0: RIG}, noise=ROUGH, seed=seed)
    moved = invert(there.bases[14]) @ drive.bases[14]
    np.testing.assert_allclose(moved[:3, 3], [-0.2, 0.0, 0.0], atol=0.1)


@pytest.mark.parametrize("lag", [0, 1])
def test_by_noise_in_the_old_unit_nothing_is_left_out(lag):
    """With the first metres; with a lag, as on CUDA, the step after them is submitted before the host knows of them."""
    drive = Later(sim.circle(15), sim.FRONT, {}, noise=ROUGH, lag=lag, metres=12)
    assert drive.statuses(12, 13, 14) == ["scale_found", "tracking", "tracking"]
    assert np.linalg.norm(drive.steps[11].report.T_told_kept[:3, 3]) > 1e-3
    for number in (12, 13, 14):
        np.testing.assert_allclose(drive.steps[number].report.T_told_kept, np.eye(4), atol=1e-6)
