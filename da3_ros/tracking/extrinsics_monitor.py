"""Notices that a camera no longer stands where /tf_static says: a bumped mount, a wrong calibration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Steps before anything is said, and how many standard deviations of its mean a misfit must reach.
_FEWEST_STEPS = 30
_SIGNIFICANCE = 4.0
# Misfits of successive windows repeat each other: so many count as one.
_CORRELATED_STEPS = 8.0


@dataclass(frozen=True)
class ExtrinsicDrift:
    """How far a camera is from its place on the robot: ``angle_deg`` and ``distance_m``, where they are significant."""

    angle_deg: float = 0.0
    distance_m: float = 0.0

    def text(self, camera: str) -> str:
        """What to tell the user."""
        by = [f"turned by {self.angle_deg:.1f} degrees"] if self.angle_deg else []
        by += [f"moved by {self.distance_m * 100:.0f} cm"] if self.distance_m else []
        return (
            f"camera {camera} has {' and '.join(by)} against /tf_static, by what the cameras see: check its mount, or "
            "calibrate the rig anew (of two cameras both show half)"
        )


class ExtrinsicsMonitor:
    """Running mean of each camera's misfit against the body (see TrackedWindow.body_misfit).

    The predicted poses are noisy, but their noise changes from step to step, while a moved camera misfits in the
    same way for as long as it is moved. Of two cameras nobody can tell which one moved: both show half of it.
    ``time_constant_steps`` is how long the mean remembers.
    """

    def __init__(self, min_angle_deg: float, min_distance_m: float, time_constant_steps: float = 200.0):
        self._limits = math.radians(min_angle_deg), min_distance_m
        self._memory = time_constant_steps
        self._cameras: dict[str, _Running] = {}

    def reset(self) -> None:
        """Forget everything, as when the extrinsics were published anew."""
        self._cameras = {}

    def update(self, camera: str, misfit: np.ndarray) -> None:
        """Take in one step's ``misfit`` (6,): rotation vector in radians, displacement in metres; NaN is left out."""
        if np.isfinite(misfit).all():
            self._cameras.setdefault(camera, _Running()).add(misfit, self._memory)

    def moved(self) -> dict[str, ExtrinsicDrift]:
        """Cameras that stand elsewhere than they should, by name."""
        found = {}
        for camera, running in self._cameras.items():
            angle, distance = (
                size if size >= limit and size >= _SIGNIFICANCE * deviation else 0.0
                for size, deviation, limit in zip(*running.sizes(), self._limits, strict=True)
            )
            if running.steps >= _FEWEST_STEPS and (angle or distance):
                found[camera] = ExtrinsicDrift(math.degrees(angle), distance)
        return found


class _Running:
    """Exponentially forgetting mean and variance of a misfit (6,)."""

    def __init__(self) -> None:
        self.steps = 0
        self._independent = 0.0
        self._mean = np.zeros(6)
        self._variance = np.zeros(6)

    def add(self, misfit: np.ndarray, memory: float) -> None:
        self.steps += 1
        gain = max(1.0 / self.steps, 1.0 / memory)
        off = misfit - self._mean
        self._mean = self._mean + gain * off
        self._variance = (1 - gain) * (self._variance + gain * off**2)
        self._independent = min(self.steps, memory) / _CORRELATED_STEPS

    def sizes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Lengths of the mean rotation and displacement, and their standard deviations."""
        deviation = np.sqrt(self._variance / max(self._independent, 1.0))
        parts = slice(0, 3), slice(3, 6)
        lengths = tuple(float(np.linalg.norm(self._mean[part])) for part in parts)
        deviations = tuple(float(np.linalg.norm(deviation[part])) for part in parts)
        return (lengths[0], lengths[1]), (deviations[0], deviations[1])
