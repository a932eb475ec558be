"""The numbers of a tracking step, as they come to the host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from da3_ros.tracking.scale_filter import UNKNOWN_VARIANCE
from da3_ros.tracking.scale_sources import SOURCES
from da3_ros.tracking.window_program import REPORT


@dataclass(frozen=True)
class TrackReport:
    """Lengths are metres, or units of the frame's own where no source has ever given metres.

    ``carried``: the scale came from the last window, else it was kept. ``steady``: share of the common depth that
    agrees, low with moving objects. ``seen``: largest share of an old view that the newest set sees. ``baseline``:
    longest one among shared views over the median depth, about 0 in pure rotation. ``texture``: grey levels.
    ``misfit`` (M, 6): of each newest view's camera against the body, see rigid.misfit; NaN where it is not placed, and
    for lengths that are no metres. ``motion`` (N,): squares of each view's motion against the newest ones, see
    gauge.squared_motion; ``angle`` (N,) radians and ``distance`` (N,): by what each shared view is off after the window
    was laid on the poses of all of them, and the ``weight`` (N,) that it had in that; 0 for others. ``shared`` (N,): 1
    for these, 0 for others. ``usable``: false where the network's numbers were not finite, so that the window says
    nothing and all else here is without meaning but for the scale.
    ``innovation`` (2,): by what the body was off its prediction, see steady_motion; ``T_told_kept`` (4, 4): from odom
    as it is remembered for the next windows to odom as it is told in this step.
    """

    log_scale: float
    scale_variance: float
    carried: bool
    steady: float
    seen: float
    baseline: float
    texture: float
    median_depth: float
    growth: float  # a place p that is remembered in odom has become growth p + shift with the scale
    shift_x: float
    shift_y: float
    shift_z: float
    frame_scale_variance: float  # of the logarithm, what the next windows inherit of scale_variance
    used: tuple[str, ...]  # sources that were taken in
    jumped: tuple[str, ...]  # sources whose other scale was taken over
    rejected: tuple[str, ...]  # sources that did not fit
    misfit: np.ndarray
    motion: np.ndarray
    angle: np.ndarray
    distance: np.ndarray
    weight: np.ndarray
    shared: np.ndarray
    usable: bool
    innovation: np.ndarray
    T_told_kept: np.ndarray

    @staticmethod
    def of(values: np.ndarray, views: int) -> TrackReport:
        """From ``Step.report`` (n,) of a window of so many views."""
        numbers = dict(zip(REPORT, values[: len(REPORT)].tolist(), strict=True))
        ends = 3 * len(SOURCES), -19 - 5 * views, -19, -18, -16
        flags, misfit, of_views, usable, innovation, told = np.split(values[len(REPORT) :], ends)
        motion, angle, distance, weight, shared = of_views.reshape(5, views).copy()
        named = [tuple(s for s, flag in zip(SOURCES, row, strict=True) if flag) for row in flags.reshape(3, -1)]
        carried, misfit = bool(numbers.pop("carried")), misfit.reshape(-1, 6).copy()
        report = TrackReport(
            **numbers, carried=carried, used=named[0], jumped=named[1], rejected=named[2], misfit=misfit,
            motion=motion, angle=angle, distance=distance, weight=weight, shared=shared, usable=bool(usable[0]),
            innovation=innovation.copy(), T_told_kept=told.reshape(4, 4).copy(),
        )  # fmt: skip
        if not report.metric:
            misfit[:, 3:] = np.nan
        return report

    @property
    def shift(self) -> np.ndarray:
        """(3,) in odom, see growth."""
        return np.array([self.shift_x, self.shift_y, self.shift_z])

    @property
    def view_variance(self) -> np.ndarray:
        """(2,) for each axis (rad^2, m^2) of a single view, as it lies in the last window and in this one."""
        there = self.weight > 0
        squares = np.square([self.angle[there], self.distance[there]])
        return squares @ self.weight[there] / max(self.weight.sum(), 1e-12) / 3

    @property
    def metric(self) -> bool:
        """Whether any source has ever given metres."""
        return self.scale_variance < UNKNOWN_VARIANCE / 2

    @property
    def metres_per_unit(self) -> float:
        """Metres per unit of the newest window."""
        return float(np.exp(self.log_scale))

    @property
    def scale_stddev(self) -> float:
        """Of metres_per_unit."""
        return float(np.exp(self.log_scale) * np.sqrt(self.scale_variance))
