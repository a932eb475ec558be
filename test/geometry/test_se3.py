"""Rigid transforms and quaternions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from da3_ros.errors import InputError
from da3_ros.geometry.se3 import (
    T_BODY_OPTICAL,
    T_from,
    invert,
    is_rigid,
    matrix_from_quat_xyzw,
    quat_xyzw_from_matrix,
    rotation_angle,
)

unit = st.floats(-1.0, 1.0, allow_subnormal=False)
quaternions = st.tuples(unit, unit, unit, unit).filter(lambda q: np.linalg.norm(q) > 0.1)
translations = st.tuples(*[st.floats(-100.0, 100.0)] * 3)


def rotation_about(axis, angle):
    """Rodrigues' formula, to check against."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


@given(quaternions, translations)
def test_inverse_times_transform_is_identity(quaternion, translation):
    T = T_from(matrix_from_quat_xyzw(quaternion), translation)
    np.testing.assert_allclose(invert(T) @ T, np.eye(4), atol=1e-9)
    assert is_rigid(T)


def test_inverse_of_a_stack():
    T = np.stack([T_from(rotation_about((1, 2, 3), a), (a, 2, 3)) for a in (0.1, 1.0, 3.0)])
    np.testing.assert_allclose(invert(T) @ T, np.broadcast_to(np.eye(4), (3, 4, 4)), atol=1e-12)


@given(quaternions)
@settings(max_examples=300)
def test_quaternion_round_trip(quaternion):
    unit_quaternion = np.array(quaternion) / np.linalg.norm(quaternion)
    back = quat_xyzw_from_matrix(matrix_from_quat_xyzw(quaternion))
    assert abs(abs(back @ unit_quaternion) - 1.0) < 1e-9  # q and -q are one rotation
    assert back[3] >= 0.0


@pytest.mark.parametrize("angle", [0.0, 1e-8, 0.3, math.pi / 2, math.pi - 1e-7, math.pi])
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -2, 3)])
def test_quaternion_and_angle_of_a_known_rotation(axis, angle):
    R = rotation_about(axis, angle)
    axis = np.array(axis) / np.linalg.norm(axis)
    expected = np.array([*(axis * math.sin(angle / 2)), math.cos(angle / 2)])
    assert abs(quat_xyzw_from_matrix(R) @ expected) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(matrix_from_quat_xyzw(expected), R, atol=1e-12)
    assert rotation_angle(R) == pytest.approx(angle, abs=1e-9)


def test_optical_axes_in_the_body_frame():
    forward, right, down = np.eye(4)[2], np.eye(4)[0], np.eye(4)[1]
    np.testing.assert_array_equal(T_BODY_OPTICAL @ forward, [1, 0, 0, 0])  # x forward
    np.testing.assert_array_equal(T_BODY_OPTICAL @ right, [0, -1, 0, 0])  # y left
    np.testing.assert_array_equal(T_BODY_OPTICAL @ down, [0, 0, -1, 0])  # z up
    assert is_rigid(T_BODY_OPTICAL)


def test_what_is_not_rigid():
    good = T_from(rotation_about((1, 1, 0), 0.5), (1, 2, 3))
    mirrored, scaled, nan, sheared = good.copy(), good.copy(), good.copy(), good.copy()
    mirrored[:3, 0] *= -1
    scaled[:3, :3] *= 1.01
    nan[0, 3] = np.nan
    sheared[3, 0] = 0.1
    for T in (mirrored, scaled, nan, sheared, np.eye(3), np.zeros((4, 4))):
        assert not is_rigid(T)


@pytest.mark.parametrize("quaternion", [(0, 0, 0, 0), (np.nan, 0, 0, 1), (np.inf, 0, 0, 1)])
def test_quaternion_that_is_no_rotation(quaternion):
    with pytest.raises(InputError, match="quaternion"):
        matrix_from_quat_xyzw(quaternion)
