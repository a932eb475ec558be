"""Rigid transforms as (4, 4) float64 numpy matrices: build, invert, check, and quaternions as x, y, z, w.

``T_a_b`` maps points in frame b to frame a, so ``T_a_c = T_a_b @ T_b_c``.
"""

from __future__ import annotations

import numpy as np

from da3_ros.errors import InputError

# Maps optical-frame points (x right, y down, z forward) to the body frame at the same place (x forward, y
# left, z up); REP 103.
T_BODY_OPTICAL = np.array([[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
T_BODY_OPTICAL.flags.writeable = False
IDENTITY = np.eye(4)
IDENTITY.flags.writeable = False


def T_from(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The (4, 4) transform with rotation ``R`` (3, 3) and translation ``t`` (3,)."""
    T = np.eye(4)
    T[:3, :3] = R
    T[:3, 3] = t
    return T


def invert(T: np.ndarray) -> np.ndarray:
    """Inverse of a rigid transform (..., 4, 4) in closed form: R^T, -R^T t."""
    R_t = np.swapaxes(T[..., :3, :3], -1, -2)
    inverse = np.zeros(T.shape, dtype=np.float64)
    inverse[..., :3, :3] = R_t
    inverse[..., :3, 3:] = -R_t @ T[..., :3, 3:]
    inverse[..., 3, 3] = 1.0
    return inverse


def is_rigid(T: np.ndarray, tolerance: float = 1e-4) -> bool:
    """Whether ``T`` is a finite (4, 4) matrix with a right-handed orthonormal rotation and last row 0 0 0 1."""
    T = np.asarray(T)
    if T.shape != (4, 4) or not np.isfinite(T).all():
        return False
    R = T[:3, :3]
    return bool(
        np.abs(R @ R.T - np.eye(3)).max() <= tolerance
        and np.linalg.det(R) > 0.0
        and np.abs(T[3] - (0.0, 0.0, 0.0, 1.0)).max() <= tolerance
    )


def rotation_angle(R: np.ndarray) -> float:
    """Angle of the rotation ``R`` (3, 3) or of the rotation part of a (4, 4) transform, in radians, 0 to pi."""
    R = np.asarray(R)[:3, :3]
    # atan2 of sine and cosine: arccos alone loses all precision near 0 and pi.
    axis = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]])
    return float(np.arctan2(np.linalg.norm(axis), np.trace(R) - 1.0))


def rotation_vector(R: np.ndarray) -> np.ndarray:
    """Axis times angle (3,), radians in [0, pi], of a rotation matrix (3, 3)."""
    *axis, w = quat_xyzw_from_matrix(R)
    sine = float(np.linalg.norm(axis))
    return (2 * np.arctan2(sine, w) / sine if sine > 0 else 2.0) * np.array(axis)


def _bar_itzhack() -> np.ndarray:
    """(9, 16): from the elements of a rotation to those of the symmetric matrix whose eigenvector is its quaternion."""
    linear = np.zeros((3, 3, 4, 4))
    for i in range(3):
        for j in range(3):
            linear[i, j, i, j] += 1
            linear[i, j, j, i] += 1
        linear[i, i, range(3), range(3)] -= 1
        linear[i, i, 3, 3] = 1
        j, k = (i + 1) % 3, (i + 2) % 3
        linear[k, j, i, 3] = linear[k, j, 3, i] = 1
        linear[j, k, i, 3] = linear[j, k, 3, i] = -1
    return linear.reshape(9, 16)


_BAR_ITZHACK = _bar_itzhack()


def quat_xyzw_from_matrix(R: np.ndarray) -> np.ndarray:
    """Unit quaternions (..., 4) x, y, z, w, w >= 0, of rotations ``R`` (..., 3, 3), or of the rotations of (..., 4, 4)
    transforms.

    The eigenvector of the largest eigenvalue of Bar-Itzhack's symmetric matrix (2000): no branches, and the
    nearest quaternion when ``R`` is not quite orthonormal.
    """
    R = np.asarray(R, dtype=np.float64)[..., :3, :3]
    N = (R.reshape(*R.shape[:-2], 9) @ _BAR_ITZHACK).reshape(*R.shape[:-2], 4, 4)
    quaternion = np.linalg.eigh(N)[1][..., -1]
    return quaternion * np.copysign(1.0, quaternion[..., 3:])


def matrix_from_quat_xyzw(quaternion: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) of the quaternion (x, y, z, w), which need not have unit length.

    Raises InputError for a quaternion that is zero or not finite.
    """
    quaternion = np.asarray(quaternion, dtype=np.float64)
    norm = np.linalg.norm(quaternion)
    if not np.isfinite(norm) or norm < 1e-9:
        raise InputError(f"quaternion {quaternion.tolist()} is no rotation: give one of unit length as x, y, z, w")
    x, y, z, w = quaternion / norm
    return np.array(
        [
            [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
            [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
            [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
        ]
    )


def transform_points(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of frame b in frame a; ``T`` = T_a_b (4, 4)."""
    return points @ T[:3, :3].T + T[:3, 3]
