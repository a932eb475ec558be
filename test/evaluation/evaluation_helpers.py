"""Poses and trajectories for the tests of da3_ros.evaluation."""

import numpy as np

from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.geometry.se3 import T_from

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND


def turn(degrees: float, axis: str = "z") -> np.ndarray:
    """Rotation (3, 3) about a coordinate axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    R = np.eye(3)
    R[first, first] = R[second, second] = c
    R[first, second], R[second, first] = -s, s
    return R


def random_poses(count: int, seed: int) -> np.ndarray:
    """Rigid poses (count, 4, 4)."""
    generator = np.random.default_rng(seed)
    poses = []
    for _ in range(count):
        q, r = np.linalg.qr(generator.normal(size=(3, 3)))
        q = q * np.sign(np.diag(r))
        poses.append(T_from(q * np.sign(np.linalg.det(q)), generator.normal(size=3)))
    return np.stack(poses)


def trajectory(positions: np.ndarray, period_s: float = 0.1, start_ns: int = START_NS) -> Trajectory:
    """Without rotation, at ``positions`` (n, 3)."""
    T = np.tile(np.eye(4), (len(positions), 1, 1))
    T[:, :3, 3] = positions
    return Trajectory(start_ns + (np.arange(len(T)) * period_s * SECOND).astype(np.int64), T)
