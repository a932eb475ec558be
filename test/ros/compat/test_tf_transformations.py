"""Quaternions are x, y, z, w, angles and matrices agree with SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

ROTATIONS = Rotation.random(20, random_state=5)
QUATERNIONS = [*ROTATIONS.as_quat(), np.array([0.0, 0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0, 0.0])]


def same_rotation(a, b, atol=1e-9):
    """Whether two quaternions are one rotation: q and -q are."""
    return abs(np.dot(a, b)) == pytest.approx(1.0, abs=atol)


@pytest.mark.parametrize("quat_xyzw", QUATERNIONS)
def test_quaternion_and_matrix_are_inverse_of_each_other(implementation, quat_xyzw):
    matrix = implementation.quaternion_matrix(quat_xyzw)
    assert matrix.shape == (4, 4)
    np.testing.assert_allclose(matrix[:3, :3], Rotation.from_quat(quat_xyzw).as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(matrix[3], [0, 0, 0, 1])
    back = implementation.quaternion_from_matrix(matrix)
    assert same_rotation(back, quat_xyzw)
    assert back[3] >= -1e-12


def test_the_rotation_of_a_pose_is_found_whatever_its_translation_and_scale(implementation):
    matrix = np.eye(4)
    matrix[:3, :3] = 2.5 * ROTATIONS[0].as_matrix()
    matrix[:3, 3] = 1, 2, 3
    assert same_rotation(implementation.quaternion_from_matrix(matrix), ROTATIONS[0].as_quat())
    np.testing.assert_allclose(implementation.translation_from_matrix(matrix), [1, 2, 3])


@pytest.mark.parametrize(("axes", "scipy_axes"), [("sxyz", "xyz"), ("szyx", "zyx"), ("rzyx", "ZYX")])
def test_euler_angles_mean_what_their_axes_say(implementation, axes, scipy_axes):
    angles = (0.3, -0.7, 2.1)
    quat_xyzw = implementation.quaternion_from_euler(*angles, axes)
    assert same_rotation(quat_xyzw, Rotation.from_euler(scipy_axes, angles).as_quat())
    np.testing.assert_allclose(implementation.euler_from_quaternion(quat_xyzw, axes), angles, atol=1e-12)


def test_the_default_axes_are_roll_pitch_yaw(implementation):
    quat_xyzw = implementation.quaternion_from_euler(0.0, 0.0, np.pi / 2)
    np.testing.assert_allclose(quat_xyzw, [0, 0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-12)
    np.testing.assert_allclose(implementation.euler_from_quaternion(quat_xyzw), [0, 0, np.pi / 2], atol=1e-12)


@pytest.mark.parametrize("i", range(5))
def test_products_and_inverses(implementation, i):
    a, b = ROTATIONS[i], ROTATIONS[i + 5]
    product = implementation.quaternion_multiply(a.as_quat(), b.as_quat())
    assert same_rotation(product, (a * b).as_quat())
    inverse = implementation.quaternion_inverse(3.0 * a.as_quat())
    np.testing.assert_allclose(implementation.quaternion_multiply(3.0 * a.as_quat(), inverse), [0, 0, 0, 1], atol=1e-12)


@given(arrays(float, (2, 4), elements=st.floats(-1, 1)), st.floats(0, 1))
@settings(deadline=None, max_examples=60, database=None)
def test_slerp_turns_steadily_the_short_way(implementation, quats, fraction):
    if min(np.linalg.norm(quats, axis=1)) < 1e-3:
        return
    a, b = quats / np.linalg.norm(quats, axis=1, keepdims=True)
    found = implementation.quaternion_slerp(quats[0], quats[1], fraction)
    angle = np.arccos(np.clip(abs(np.dot(a, b)), 0, 1))
    assert np.linalg.norm(found) == pytest.approx(1.0)
    assert np.arccos(np.clip(abs(np.dot(a, found)), 0, 1)) == pytest.approx(fraction * angle, abs=1e-6)
    assert np.arccos(np.clip(abs(np.dot(b, found)), 0, 1)) == pytest.approx((1 - fraction) * angle, abs=1e-6)


def test_matrices_multiply_from_left_to_right(implementation):
    move = implementation.translation_matrix([1, 2, 3])
    turn = implementation.quaternion_matrix(ROTATIONS[1].as_quat())
    np.testing.assert_array_equal(move @ [0, 0, 0, 1], [1, 2, 3, 1])
    np.testing.assert_allclose(implementation.concatenate_matrices(move, turn, move), move @ turn @ move)
    np.testing.assert_array_equal(implementation.concatenate_matrices(), np.eye(4))
    np.testing.assert_array_equal(implementation.translation_from_matrix(move), [1, 2, 3])
