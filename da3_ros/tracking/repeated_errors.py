"""What a network gets wrong alike in all of its windows: errors of the way that no comparison of windows shows.

A network sees turns and ways too short or too long, or bent, and the next window repeats that. So the views that two
windows share agree, the means by which tracking places windows take nothing of it out, and it grows with the motion.
How large it is follows from what single views are off from window to window: where that is more, so is the rest. How
many times as much is a matter of experience, as the four numbers by which a robot's odometry is off are (Thrun,
Burgard and Fox, Probabilistic Robotics, 2005, section 5.4).
"""

from __future__ import annotations

import math

import numpy as np

from da3_ros.geometry.se3 import rotation_vector

# Deviation for each axis, in those of single views, by which da3-nano was found to be off (docs/tracking.md): turns for
# each radian of turn and for each depth of way (depths are what is seen, at the median), and likewise ways.
_TURN_BY_TURN, _TURN_BY_WAY = 5.0, 8.0
_WAY_BY_TURN, _WAY_BY_WAY = 2.0, 12.0
_RIG = 2.0  # times the variance of single views: what of the distances between the cameras of a set repeats
_MEMORY = 3.0  # motion, in radians and depths, after which errors are others
# What single views are off, taken to have been found in so many windows before the first: radians, share of the depth.
_GUESS_WINDOWS, _GUESS = 10, np.array([0.01, 0.015])


class RepeatedErrors:
    """Covariance of what repeats, ordered as OdometryCovariance has it, at the body. Not thread-safe.

    An error is a matrix of independent numbers of deviation 1 times a motion (6,), turn and displacement in odom's
    axes: one matrix for turns, which move later positions too, one for displacements.
    """

    def __init__(self) -> None:
        self._squares, self._windows = _GUESS_WINDOWS * np.square(_GUESS), _GUESS_WINDOWS
        self.start()

    def start(self) -> None:
        """Count the way from the next pose on; how large errors are stays known."""
        self._turns, self._ways = _Along(slice(3, 6)), _Along(slice(0, 3))
        self._last: np.ndarray | None = None

    def realign(self, R_new_old: np.ndarray, T_odom_body: np.ndarray) -> None:
        """Odom has become another frame, ``R_new_old`` (3, 3); ``T_odom_body`` (4, 4) in it of the body at the last
        step, which may be another body too."""
        self._turns.turn(R_new_old)
        self._ways.turn(R_new_old)
        self._last = T_odom_body

    def step(
        self, T_odom_body: np.ndarray, depth: float, single: np.ndarray, rig_spread: float = math.inf
    ) -> np.ndarray:
        """Covariance (6, 6) at ``T_odom_body`` (4, 4).

        ``single`` (2,): variances for each axis of single views in this window, turns (rad^2) and positions (m^2), NaN
        where it shows none; ``depth``: typical of what is seen, metres. ``rig_spread``: sum of the squares (m^2) by
        which the cameras of a set are apart from their middle, where that alone tells how long a metre is.
        """
        depth = max(depth, 1e-9)
        if np.isfinite(single).all():
            self._squares, self._windows = self._squares + single / [1.0, depth**2], self._windows + 1
        if self._last is not None:
            moved = T_odom_body[:3, 3] - self._last[:3, 3]
            turned = rotation_vector(T_odom_body[:3, :3] @ self._last[:3, :3].T)
            motion = math.hypot(float(np.linalg.norm(turned)), float(np.linalg.norm(moved)) / depth)
            kept = math.exp(-motion / _MEMORY)
            by_way = math.sqrt(_WAY_BY_WAY**2 + _RIG * depth**2 / rig_spread)
            self._turns.step(moved, np.concatenate([_TURN_BY_TURN * turned, _TURN_BY_WAY / depth * moved]), kept)
            self._ways.step(moved, np.concatenate([_WAY_BY_TURN * depth * turned, by_way * moved]), kept)
        self._last = T_odom_body
        turn, way = self._squares / self._windows
        return turn * self._turns.pose + way * self._ways.pose


class _Along:
    """Covariance (24, 24) of a pose and of the matrix (3, 6) whose product with the motion adds to ``rows`` of it."""

    def __init__(self, rows: slice):
        self._rows = rows
        self._covariance = np.zeros((24, 24))
        self._covariance[6:, 6:] = np.eye(18)

    @property
    def pose(self) -> np.ndarray:
        return self._covariance[:6, :6]

    def step(self, moved: np.ndarray, motion: np.ndarray, kept: float) -> None:
        """``moved`` (3,) displacement, ``motion`` (6,); ``kept``: how much of the matrix is what it was."""
        self._covariance[6:, :6] *= kept
        self._covariance[:6, 6:] *= kept
        x, y, z = moved
        move = np.eye(24)
        move[:3, 3:6] = [[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]  # -[displacement]_x: what a turn does to it
        move[self._rows, 6:] = np.kron(np.eye(3), motion)
        self._covariance = move @ self._covariance @ move.T

    def turn(self, R: np.ndarray) -> None:
        """Into other axes, ``R`` (3, 3) from the old ones."""
        both = np.kron(np.eye(2), R)
        turn = np.zeros((24, 24))
        turn[:6, :6], turn[6:, 6:] = both, np.kron(R, both)
        self._covariance = turn @ self._covariance @ turn.T
