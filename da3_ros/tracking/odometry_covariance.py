"""How far the odometry may be off: the covariance of the body's pose in odom, step by step."""

from __future__ import annotations

import numpy as np


class OdometryCovariance:
    """Uncertainty of T_odom_base grown along the way, ordered as in nav_msgs/Odometry: x, y, z, turns about them.

    Errors are small ones of the pose in odom's axes, at the body: position in metres, rotation in radians. Each step
    adds its own, an earlier turn moves every later position sideways, and the relative error of the scale, which
    all of the way shares, lengthens the way as a whole.
    """

    def __init__(self) -> None:
        self._covariance = np.zeros((6, 6))
        self._last: np.ndarray | None = None
        self._origin = np.zeros(3)
        self._lost = False

    def lose(self) -> None:
        """From here on nobody knows how far the odometry is off."""
        self._lost = True

    def start(self) -> None:
        """Count the way from the next pose on; what is lost stays lost."""
        self._covariance = np.zeros((6, 6))
        self._last = None

    def realign(self, T_new_old: np.ndarray) -> None:
        """Odom has become another frame, ``T_new_old`` (4, 4), with the body at its origin in the beginning."""
        R, t = T_new_old[:3, :3], T_new_old[:3, 3]
        turn = np.kron(np.eye(2), R)
        self._covariance = turn @ self._covariance @ turn.T
        self._origin = np.zeros(3)
        if self._last is not None:
            self._last = R @ self._last + t

    def step(
        self,
        T_odom_base: np.ndarray,
        rotation_variance: float,
        translation_variance: float,
        scale_variance: float,
        own_rotation_variance: float = 0.0,
        own_translation_variance: float = 0.0,
    ) -> np.ndarray | None:
        """Covariance (6, 6) at T_odom_base (4, 4); None once lost.

        ``rotation_variance`` (rad^2) and ``translation_variance`` (m^2), for each axis, are those of this step's
        displacement, which later steps inherit; ``own_...`` are those of this pose alone. ``scale_variance`` is that
        of the logarithm of the scale.
        """
        if self._lost:
            return None
        position = T_odom_base[:3, 3]
        if self._last is None:
            self._origin = position.copy()
        else:
            x, y, z = position - self._last
            move = np.eye(6)
            move[:3, 3:] = [[0.0, z, -y], [-z, 0.0, x], [y, -x, 0.0]]  # -[displacement]_x: what a turn does to it
            self._covariance = move @ self._covariance @ move.T
            self._covariance += np.diag([translation_variance] * 3 + [rotation_variance] * 3)
        self._last = position.copy()
        total = self._covariance + np.diag([own_translation_variance] * 3 + [own_rotation_variance] * 3)
        way = position - self._origin
        total[:3, :3] += scale_variance * np.outer(way, way)
        return total
