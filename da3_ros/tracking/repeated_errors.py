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
_MOST_DEPTH = 1.5  # times as deep or as near as in the step before
_MEMORY = 3.0  # motion, in radians and depths, after which errors are others
# What single views are off, taken to have been found in so many windows before the first: radians, share of the depth.
_GUESS_WINDOWS, _GUESS = 10, np.array([0.01, 0.015])


class RepeatedErrors:
    """Covariance of what repeats, ordered as OdometryCovariance has it, at the body. Not thread-safe.

    An error is a matrix (3, 6) of independent numbers of deviation 1 times a motion (6,), turn and displacement in
    odom's axes: one matrix for turns, which move later positions too, one for displacements. Since all axes are alike,
    covariances of a turn are multiples of the identity, and those of a turn with a position are cross products, so
    numbers and vectors stand for them.
    """

    def __init__(self) -> None:
        self._squares, self._windows = _GUESS_WINDOWS * np.square(_GUESS), _GUESS_WINDOWS
        self.start()

    def start(self) -> None:
        """Count the way from the next pose on; how large errors are stays known."""
        self._last: np.ndarray | None = None
        self._depth: float | None = None
        # Of turns r, positions p that they move, and columns c_j of the matrix: E[r r^T] = v I, E[r c_j^T] = a_j I,
        # E[p r^T] = -[g]_x, E[p c_j^T] = -[b_j]_x; [.]_x is the matrix of the cross product.
        self._v, self._a, self._g, self._b = 0.0, np.zeros(6), np.zeros(3), np.zeros((3, 6))
        self._moved = np.zeros((3, 3))  # E[p p^T]
        # Of displacements d with a matrix of their own: E[d d^T] = w I, E[d c_j^T] = e_j I.
        self._w, self._e = 0.0, np.zeros(6)

    def realign(self, R_new_old: np.ndarray, T_odom_body: np.ndarray) -> None:
        """Odom has become another frame, ``R_new_old`` (3, 3); ``T_odom_body`` (4, 4) in it of the body at the last
        step, which may be another body too."""
        R, both = R_new_old, np.kron(np.eye(2), R_new_old)
        self._a, self._e, self._g, self._b = both @ self._a, both @ self._e, R @ self._g, R @ self._b @ both.T
        self._moved = R @ self._moved @ R.T
        self._last = T_odom_body

    def step(
        self, T_odom_body: np.ndarray, depth: float, single: np.ndarray, rig_spread: float = math.inf
    ) -> np.ndarray:
        """Covariance (6, 6) at ``T_odom_body`` (4, 4); NaN, and nothing is counted, where that is no pose.

        ``single`` (2,): variances for each axis of single views in this window, turns (rad^2) and positions (m^2), NaN
        where it shows none; ``depth``: typical of what is seen, metres. ``rig_spread``: sum of the squares (m^2) by
        which the cameras of a set are apart from their middle, where that alone tells how long a metre is.
        """
        if not np.isfinite(T_odom_body).all():
            return np.full((6, 6), np.nan)
        # The share of a way in its depth is counted for good, so one window that is wrong about depth must not decide.
        depth = max(depth, 1e-9) if np.isfinite(depth) else self._depth or 1.0
        usual = self._depth or depth
        self._depth = depth = float(np.clip(depth, usual / _MOST_DEPTH, usual * _MOST_DEPTH))
        if np.isfinite(single).all():
            self._squares, self._windows = self._squares + single / [1.0, depth**2], self._windows + 1
        if self._last is not None:
            moved = T_odom_body[:3, 3] - self._last[:3, 3]
            turned = rotation_vector(T_odom_body[:3, :3] @ self._last[:3, :3].T)
            self._forget(math.hypot(float(np.linalg.norm(turned)), float(np.linalg.norm(moved)) / depth))
            self._add_turn(moved, np.concatenate([_TURN_BY_TURN * turned, _TURN_BY_WAY / depth * moved]))
            by_way = math.sqrt(_WAY_BY_WAY**2 + _RIG * depth**2 / rig_spread)
            u = np.concatenate([_WAY_BY_TURN * depth * turned, by_way * moved])
            self._w += float(2 * u @ self._e + u @ u)
            self._e = self._e + u
        self._last = T_odom_body
        turn, way = self._squares / self._windows
        covariance = np.zeros((6, 6))
        covariance[:3, :3] = turn * self._moved + way * self._w * np.eye(3)
        covariance[3:, :3] = turn * _cross(self._g)
        covariance[:3, 3:] = covariance[3:, :3].T
        covariance[3:, 3:] = turn * self._v * np.eye(3)
        return covariance

    def _forget(self, motion: float) -> None:
        kept = math.exp(-motion / _MEMORY)
        self._a, self._b, self._e = kept * self._a, kept * self._b, kept * self._e

    def _add_turn(self, moved: np.ndarray, u: np.ndarray) -> None:
        """Displaced by ``moved`` (3,) with the turn so far, to which the matrix times ``u`` (6,) is then added."""
        d = _cross(moved)
        half = -d @ _cross(self._g)
        self._moved = self._moved + half + half.T + self._v * d @ d.T
        self._g = self._g + self._b @ u + moved * float(self._v + u @ self._a)
        self._b = self._b + np.outer(moved, self._a)
        self._v += float(2 * u @ self._a + u @ u)
        self._a = self._a + u


def _cross(vector: np.ndarray) -> np.ndarray:
    """(3, 3): its product with another vector is the cross product."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
