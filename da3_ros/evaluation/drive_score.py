"""Scores of one drive whose truth is known at every step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from da3_ros.errors import InputError
from da3_ros.evaluation.trajectory import Trajectory, absolute_error, continuity, relative_error
from da3_ros.geometry.se3 import invert, rotation_angle

MOVES_M = 0.5  # metres of way from which a drive has errors relative to it


@dataclass(frozen=True)
class DriveResult:
    """Figures of one drive. Lengths in metres; trajectories are compared with their first poses on each other.

    ``ate_scaled_m``: after the best scale too (and rotation and shift, where the way is no line). ``largest_step_m``:
    of the estimated way, where the true step was ``true_step_m``; ``jump_m``: largest difference between a step of the
    estimated and the true way. ``nees``: mean normalised error squared of the pose, 6 where the covariance is right.
    ``rpe_percent``: of the way, over about a metre (a number of the longest steps); ``rpe_second_...``: over a second.
    ``step_ms``: host time of a step, median. NaN where there is nothing to tell.
    """

    scenario: str
    steps: int
    distance_m: float
    ate_m: float
    ate_scaled_m: float
    drift_percent: float
    rpe_percent: float
    rpe_second_m: float
    rpe_second_deg: float
    rotation_deg: float
    scale_median_percent: float
    scale_largest_percent: float
    largest_step_m: float
    true_step_m: float
    jump_m: float
    cloud_m: float
    nees: float
    step_ms: float
    statuses: Mapping[str, int]


@dataclass
class DriveScore:
    """What was estimated at n >= 2 steps, beside the truth.

    ``estimated`` and ``true`` (n, 4, 4) T_odom_body, the first poses being equal; ``covariances`` (6, 6) of each pose
    or None; ``scale_errors`` (n,) relative, positive; ``cloud_m``: how far each step's points are from the truth;
    ``step_ms`` and ``statuses`` of each step. ``second``: steps in a second.
    """

    name: str
    stamps_ns: np.ndarray
    estimated: np.ndarray
    true: np.ndarray
    covariances: Sequence[np.ndarray | None]
    scale_errors: np.ndarray
    cloud_m: Sequence[float]
    step_ms: Sequence[float]
    statuses: Sequence[str]
    second: int

    @property
    def distance(self) -> float:
        """Length of the true way, metres."""
        return way_length(self.true)

    @property
    def position_error(self) -> float:
        """Largest, in metres."""
        return float(np.linalg.norm(self.estimated[:, :3, 3] - self.true[:, :3, 3], axis=1).max())

    @property
    def rotation_error(self) -> float:
        """Largest, in radians."""
        return max(rotation_angle(a[:3, :3].T @ b[:3, :3]) for a, b in zip(self.estimated, self.true, strict=True))

    @property
    def largest_jump(self) -> float:
        """Largest difference between the estimated and the true displacement of a step, metres."""
        return continuity(self._estimate, self._truth).largest_difference

    @property
    def _estimate(self) -> Trajectory:
        return Trajectory(self.stamps_ns, self.estimated)

    @property
    def _truth(self) -> Trajectory:
        return Trajectory(self.stamps_ns, self.true)

    def nees(self) -> np.ndarray:
        """Normalised error squared (n,) of each pose but the first ones, of which it is NaN."""
        values = []
        for P, T, T_true in zip(self.covariances, self.estimated, self.true, strict=True):
            R = T[:3, :3] @ T_true[:3, :3].T
            turn = np.array([R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1]]) / 2
            error = np.concatenate([T[:3, 3] - T_true[:3, 3], turn])
            known = P is not None and np.linalg.eigvalsh(P)[0] > 1e-14
            values.append(error @ np.linalg.solve(P, error) if P is not None and known else math.nan)
        return np.array(values)

    def result(self) -> DriveResult:
        """The figures; ATE and RPE by evo."""
        estimate, truth = self._estimate, self._truth
        moves = self.distance > MOVES_M
        nees = self.nees()[len(self.estimated) // 4 :]
        over_a_second = relative_error(estimate, truth, min(self.second, len(truth) - 1))
        steps = continuity(estimate, truth)
        return DriveResult(
            scenario=self.name,
            steps=len(self.estimated),
            distance_m=self.distance,
            ate_m=absolute_error(estimate, truth, "first").rmse,
            ate_scaled_m=self.ate_scaled() if moves else math.nan,
            drift_percent=100 * self.position_error / self.distance if moves else math.nan,
            rpe_percent=self._rpe_percent(estimate, truth) if moves else math.nan,
            rpe_second_m=over_a_second[0].rmse,
            rpe_second_deg=over_a_second[1].rmse,
            rotation_deg=math.degrees(self.rotation_error),
            scale_median_percent=100 * float(np.median(self.scale_errors)),
            scale_largest_percent=100 * float(self.scale_errors.max()),
            largest_step_m=steps.largest_step,
            true_step_m=steps.true_step,
            jump_m=steps.largest_difference,
            cloud_m=float(np.nanmedian(self.cloud_m)) if np.isfinite(self.cloud_m).any() else math.nan,
            nees=float(np.nanmean(nees)) if np.isfinite(nees).any() else math.nan,
            step_ms=float(np.median(self.step_ms)),
            statuses=dict(Counter(self.statuses)),
        )

    def ate_scaled(self) -> float:
        """After the best similarity; a line determines none, so there the first poses coincide, with the best scale."""
        try:
            return absolute_error(self._estimate, self._truth, "sim3").rmse
        except InputError:
            start = self.true[0, :3, 3]
            estimated, true = self.estimated[:, :3, 3] - start, self.true[:, :3, 3] - start
            scaled = self.estimated.copy()
            scaled[:, :3, 3] = start + estimated * ((estimated * true).sum() / np.square(estimated).sum())
            return absolute_error(Trajectory(self.stamps_ns, scaled), self._truth, "none").rmse

    def _rpe_percent(self, estimate: Trajectory, truth: Trajectory) -> float:
        step = float(np.linalg.norm(np.diff(self.true[:, :3, 3], axis=0), axis=1).max())
        delta = max(1, min(round(1.0 / step), int(self.distance / 2 / step))) * step
        try:
            return 100 * relative_error(estimate, truth, delta, "metres")[0].rmse / delta
        except InputError:  # steps of all lengths, where some are missing
            return math.nan


def way_length(T: np.ndarray) -> float:
    """Of poses (n, 4, 4)."""
    return float(np.linalg.norm(np.diff(T[:, :3, 3], axis=0), axis=1).sum())


def starting_at(T: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Poses (n, 4, 4) moved as a whole so that the first one is ``start`` (4, 4)."""
    return start @ invert(T[0]) @ T
