"""How far the odometry may be off: the covariance of the body's pose in odom, step by step."""

from __future__ import annotations

import numpy as np


class OdometryCovariance:
    """Uncertainty of T_odom_base grown along the way, ordered as in nav_msgs/Odometry: x, y, z, turns about them.

    Errors are small ones of the pose in odom's axes, at the body: position in metres, rotation in radians. Each step
    adds its own, an earlier turn moves every later position sideways, and the relative error that the scale has at
    the time makes the step too long or too short. That error changes with the time constant of the scale's filter, so
    it is a state of its own here, the seventh: what it did to the way remains after it has been corrected.
    """

    def __init__(self, time_constant_s: float) -> None:
        self._time_constant_s = max(time_constant_s, 1e-6)
        self._covariance = np.zeros((7, 7))
        self._last: np.ndarray | None = None
        self._lost = False

    def lose(self) -> None:
        """From here on nobody knows how far the odometry is off."""
        self._lost = True

    def start(self) -> None:
        """Count the way from the next pose on; what is lost stays lost."""
        self._covariance = np.zeros((7, 7))
        self._last = None

    def realign(self, R_new_old: np.ndarray, position: np.ndarray) -> None:
        """Odom has become another frame, ``R_new_old`` (3, 3); ``position`` (3,) in it of the body at the last step,
        which may be another body too."""
        turn = np.eye(7)
        turn[:3, :3] = turn[3:6, 3:6] = R_new_old
        self._covariance = turn @ self._covariance @ turn.T
        self._last = position.copy()

    def step(
        self,
        T_odom_base: np.ndarray,
        elapsed_s: float,
        rotation_variance: float,
        translation_variance: float,
        scale_variance: float,
        own: np.ndarray | None = None,
    ) -> np.ndarray | None:
        """Covariance (6, 6) at T_odom_base (4, 4), ``elapsed_s`` after the last one; None once lost.

        ``rotation_variance`` (rad^2) and ``translation_variance`` (m^2), for each axis, are those of this step's
        displacement, which later steps inherit; ``own`` (6, 6) is that of this pose alone. ``scale_variance`` is that
        of the logarithm of the scale.
        """
        if self._lost:
            return None
        position = T_odom_base[:3, 3]
        if self._last is not None:
            x, y, z = moved = position - self._last
            self._correlate(scale_variance, elapsed_s)
            move = np.eye(7)
            move[:3, 3:6] = [[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]  # -[displacement]_x: what a turn does to it
            move[:3, 6] = moved
            self._covariance = move @ self._covariance @ move.T
            self._covariance[:6, :6] += np.diag([translation_variance] * 3 + [rotation_variance] * 3)
        else:
            self._covariance[6, 6] = scale_variance
        self._last = position.copy()
        total = self._covariance[:6, :6].copy()
        return total if own is None else total + own

    def revise(self, rotation: float, translation: float) -> None:
        """Variances so far are these times as large, now that it is known better what they are."""
        factors = np.sqrt(np.array([translation] * 3 + [rotation] * 3 + [1.0]))
        self._covariance *= np.outer(factors, factors)

    def _correlate(self, scale_variance: float, elapsed_s: float) -> None:
        """The scale's error now, of which less is that of the last step the longer that was ago."""
        before = self._covariance[6, 6]
        share = np.exp(-elapsed_s / self._time_constant_s) * np.sqrt(scale_variance / before) if before > 0 else 0.0
        self._covariance[6, :6] *= share
        self._covariance[:6, 6] *= share
        self._covariance[6, 6] = scale_variance
