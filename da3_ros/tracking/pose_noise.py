"""How the errors of a network's poses grow with motion, learnt from what shared views are off in each window.

Some networks see two views the worse against each other the further they are apart, others all views alike. The square
of a view's error against the newest ones is taken to be proportional to 1 + growth m^2, m being its motion (see
gauge.squared_motion), and the growth is the slope over the intercept of a running regression of squares of residuals
on squares of motion. A few numbers a step, so this is done on the host, for the steps that come after.
"""

from __future__ import annotations

import numpy as np

# Until there is something to go by: what da3-nano and simulated windows, whose errors do not grow, are both served by.
UNLEARNT = 25.0
_START_VIEWS = 60.0  # by so many residuals at no motion, and as many at this square of it
_START_MOTION = 0.05
_KEPT = 0.99  # from a window to the next
_MOST = 100.0
_MOST_MOTION = 1.0  # squares beyond it count as this: few far views must not decide alone
_MOST_OFF = 9.0  # times the mean square, likewise
_SMALLEST = 1e-9  # mean square: below it residuals are rounding
_LEAST_LEFT = 0.1
_LEAST_VIEWS = 3  # of two views each is off by what the other one is


def share_left(counted: np.ndarray) -> np.ndarray:
    """Which share (N,) of squares of equal errors is left of views after a mean in which they ``counted`` (N,), not 0.

    A mean follows the views that count most, so that less of their errors is left.
    """
    share = counted / counted.sum()
    return (1 - 2 * share + np.square(share).sum()).clip(min=_LEAST_LEFT)


class ErrorGrowth:
    """From one reset to the next. Not thread-safe."""

    def __init__(self) -> None:
        near = 2 / (2 + UNLEARNT * _START_MOTION)
        far = 2 - near
        views, m = _START_VIEWS, _START_MOTION
        # Of 1, m^2 and m^4, and of squares of residuals by 1 and m^2.
        self._sums = np.array([2 * views, views * m, views * m * m, views * (near + far), views * m * far])
        self._usual = 0.0  # mean square by which residuals are divided, 0 before the first

    @property
    def value(self) -> float:
        """Of squares of errors with the square of motion, 0 to 100."""
        views, m, m_m, off, off_m = self._sums.tolist()
        slope, intercept = views * off_m - m * off, m_m * off - m * off_m
        return min(max(slope / max(intercept, 1e-12), 0.0), _MOST)

    def learn(self, motion: np.ndarray, off: np.ndarray, counted: np.ndarray) -> None:
        """One window more: squares of ``motion`` (N,) and of what is left, ``off`` (N,), of views that were laid on
        their poses by a mean in which they ``counted`` (N,), 0 for views that were not there before."""
        seen = counted > 0
        if seen.sum() < _LEAST_VIEWS:
            return
        left, m = off[seen] / share_left(counted[seen]), np.minimum(motion[seen], _MOST_MOTION)
        mean = left.mean()
        if not (_SMALLEST < mean < np.inf and np.isfinite(m).all()):
            return
        self._usual = mean if self._usual == 0 else self._usual + (1 - _KEPT) * (mean - self._usual)
        left = np.minimum(left / self._usual, _MOST_OFF)
        self._sums = _KEPT * self._sums + [len(m), m.sum(), m @ m, left.sum(), left @ m]
