"""Quaternions in ROS order (x, y, z, w), Euler angles and 4x4 matrices, over ``transforms3d`` (w first)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transforms3d import affines, euler, quaternions

Quaternion = tuple[float, float, float, float]
Vector = Sequence[float] | np.ndarray


def quaternion_from_matrix(matrix: np.ndarray) -> Quaternion:
    """(x, y, z, w) with w >= 0 of the rotation in a 4x4 matrix; scale and shear are taken out first."""
    return _xyzw(quaternions.mat2quat(affines.decompose(np.asarray(matrix))[1]))


def quaternion_matrix(quaternion: Vector) -> np.ndarray:
    """4x4 rotation matrix of (x, y, z, w), of any length but 0."""
    matrix = np.identity(4)
    matrix[:3, :3] = quaternions.quat2mat(_wxyz(quaternion))
    return matrix


def quaternion_from_euler(ai: float, aj: float, ak: float, axes: str = "sxyz") -> Quaternion:
    """(x, y, z, w) of three angles in radians; ``sxyz``: roll, pitch, yaw about fixed x, y, z."""
    return _xyzw(euler.euler2quat(ai, aj, ak, axes=axes))


def euler_from_quaternion(quaternion: Vector, axes: str = "sxyz") -> tuple[float, float, float]:
    """The angles, in radians, that ``quaternion_from_euler`` makes this rotation of."""
    return euler.mat2euler(quaternion_matrix(quaternion), axes=axes)


def quaternion_multiply(quaternion1: Vector, quaternion0: Vector) -> Quaternion:
    """The product ``quaternion1 * quaternion0``: first turns by ``quaternion0``."""
    return _xyzw(quaternions.qmult(_wxyz(quaternion1), _wxyz(quaternion0)))


def quaternion_inverse(quaternion: Vector) -> np.ndarray:
    """(4,) the inverse, of any length but 0."""
    x, y, z, w = quaternion
    return np.array((-x, -y, -z, w), dtype=np.float64) / np.dot(quaternion, quaternion)


def quaternion_slerp(quat0: Vector, quat1: Vector, fraction: float) -> np.ndarray:
    """(4,) unit quaternion at ``fraction`` (0 to 1) of the shorter great arc from ``quat0`` to ``quat1``."""
    start = np.asarray(quat0, dtype=np.float64) / np.linalg.norm(quat0)
    end = np.asarray(quat1, dtype=np.float64) / np.linalg.norm(quat1)
    if fraction == 1.0:
        return end  # with the sign that it was given with
    cosine = float(np.dot(start, end))
    if cosine < 0.0:
        cosine, end = -cosine, -end
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-7:  # no arc to speak of, and its sine is no divisor
        return start
    return (np.sin((1.0 - fraction) * angle) * start + np.sin(fraction * angle) * end) / np.sin(angle)


def concatenate_matrices(*matrices: np.ndarray) -> np.ndarray:
    """(4, 4) product of 4x4 matrices, from left to right; identity for none."""
    product = np.identity(4)
    for matrix in matrices:
        product = product @ matrix
    return product


def translation_matrix(direction: Vector) -> np.ndarray:
    """4x4 matrix that moves by ``direction`` (3,)."""
    matrix = np.identity(4)
    matrix[:3, 3] = direction
    return matrix


def translation_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """(3,) the translation in a 4x4 matrix."""
    return np.asarray(matrix)[:3, 3].copy()


def _wxyz(quaternion: Vector) -> Quaternion:
    x, y, z, w = quaternion
    return w, x, y, z


def _xyzw(quaternion: Vector) -> Quaternion:
    w, x, y, z = quaternion
    return x, y, z, w
