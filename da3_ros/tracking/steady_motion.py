"""The body's pose in a new window, weighed against where it would be had it gone on as it did.

A network may place its newest view wrongly, and odom then makes a step that nobody took. So what is told of the pose
takes it as a measurement of a body that moves on evenly (alpha-beta filter; Bar-Shalom, Li and Kirubarajan, Estimation
with Applications to Tracking and Navigation, 2001, 6.5): of its innovation, by which it is off the prediction, such a
share is taken in as innovations are not errors of single views. Both are learnt: innovations from those of the steps
before, errors of views from what shared ones are off in each window. Where windows agree with each other exactly,
everything is taken in, however the robot moves. A few numbers a step, so learning is done on the host, for the steps
that come after; ``weigh`` runs on the device.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from da3_ros.tracking.gauge import orthonormalize
from da3_ros.tracking.numbers import numbers
from da3_ros.tracking.pose_noise import share_left

_KEPT = 0.95  # from a window to the next
_LEAST_VIEWS = 2
_MOST_OFF = 9.0  # times the mean: a single wrong window does not show how the robot moves
_SMALLEST = 1e-18  # of squares, so that none is divided by
# Squares of errors that an innovation may be, in those that shared views are found to have: part of what these are off
# is the same in the next windows, and to leave that out delays the pose and steadies nothing.
_ERRORS = 0.6
# An innovation whose square is by this factor beyond what they usually are is taken for one that is usual: the robot
# moves as it has not before, or the window is wrong as none was before.
_BEYOND = 16.0
_LEAST_TAKEN = 0.1
_FEWEST = 3  # innovations, before which everything is taken in
UNKNOWN = np.array([[0.0, 0.0], [np.inf, np.inf]])  # MotionNoise before, or where nothing is to be weighed


class MotionNoise:
    """What views and innovations are off, as squares for each axis, from one reset to the next. Not thread-safe."""

    def __init__(self) -> None:
        self._heard = np.zeros(2)
        self._value = np.zeros((2, 2))

    @property
    def value(self) -> np.ndarray:
        """(2, 2): of single views and of innovations, each of turns (rad^2) and of displacements."""
        return self._value * [[_ERRORS], [1.0]] if self._heard[1] >= _FEWEST else UNKNOWN

    def learn(self, angle: np.ndarray, distance: np.ndarray, counted: np.ndarray, innovation: np.ndarray) -> None:
        """One window more. ``angle`` and ``distance`` (N,) by which views are off after they were laid on their poses
        by a mean in which they ``counted`` (N,), 0 for views that were not there before; ``innovation`` (2,) squares
        for each axis, NaN where there was no prediction."""
        seen = counted > 0
        if seen.sum() >= _LEAST_VIEWS:
            squares = np.square([angle[seen], distance[seen]]) / share_left(counted[seen])
            self._hear(0, squares.mean(1) / 3)
        # Where nothing has moved so far innovations are small, and those of the first motion must be heard.
        most = _MOST_OFF * self._value.max(0) if self._heard[1] > 1 else np.inf
        self._hear(1, np.minimum(innovation, most))

    def enlarge(self, growth: float) -> None:
        """Lengths have become ``growth`` times as many."""
        self._value = self._value * [1.0, growth**2]

    def _hear(self, row: int, squares: np.ndarray) -> None:
        if np.isfinite(squares).all():
            self._heard[row] += 1
            self._value[row] += max(1 - _KEPT, 1 / self._heard[row]) * (squares - self._value[row])


def at_pace(noise: np.ndarray, pace: float) -> tuple[np.ndarray, np.ndarray]:
    """``noise`` (2, 2), see MotionNoise, of a step that takes ``pace`` times as long as the one before, and by what its
    squares of innovations are larger, (2,).

    Beyond errors of views an innovation is what the speed has changed by, over a longer time: it grows with the square
    of that time, and what errors of views are in it does not. So a prediction counts the less the farther it reaches;
    one that reaches less far than the step before did is as after a step like others, for gaps are the exception.
    """
    if pace <= 1:
        return noise, np.ones(2)
    errors, innovations = noise
    usual = np.maximum(innovations, errors / (1 - _LEAST_TAKEN)).clip(min=_SMALLEST)
    larger = (1 + (1 - errors / usual) * (pace**2 - 1)).clip(min=_SMALLEST)
    return np.stack([errors, larger * usual]), larger


class Pace:
    """How the body's steps follow each other in time, from one reset to the next. Not thread-safe."""

    def __init__(self) -> None:
        self._stamp_ns = self._interval_ns = 0  # of the last step that had a body, and of the way to it
        self._goes_on = False  # whether that step's motion is known

    def step(self, stamp_ns: int, has_body: bool, comes_from_last: bool) -> tuple[float, bool]:
        """How many times as long as the body's last step this one took, and whether that says anything of this one.

        ``comes_from_last``: the window lies where the last one had it, and the body is where it was on the robot.
        """
        if not has_body:
            self._goes_on = False
            return 1.0, False
        interval_ns, predicts = stamp_ns - self._stamp_ns, comes_from_last and self._goes_on
        pace = interval_ns / self._interval_ns if predicts else 1.0
        self._stamp_ns, self._interval_ns = stamp_ns, interval_ns
        self._goes_on = comes_from_last and interval_ns > 0
        return pace, predicts


class Weighed(NamedTuple):
    """Of one step."""

    body: Tensor  # (4, 4)
    ahead: Tensor  # (4, 4) where it would be by the new motion, from where it was
    innovation: Tensor  # (2,) squares for each axis: of turns (rad^2) and of displacements


def weigh(
    body: Tensor,
    last: Tensor,
    motion: Tensor,
    went: Tensor,
    unforeseen: Tensor,
    pace: Tensor,
    growth: Tensor,
    noise: Tensor,
    free: Tensor,
    usable: Tensor,
) -> Weighed:
    """The pose that a window gives the ``body`` (4, 4), weighed against the prediction from its ``last`` one (4, 4).

    ``motion`` (4, 4): of the body in its own axes, over the step before; ``pace`` (): how many times as long this one
    took; ``growth`` (): by which lengths have grown since. ``unforeseen`` (): 1 where that motion says nothing of this
    one; the prediction is then by how the windows had the body go, ``went`` (4, 4), so that what was left out before is
    left out still and fades as it does otherwise. ``noise`` (2, 2) see MotionNoise; ``free`` (): 1 where all is taken
    in; ``usable`` (): 0 where the window says nothing, so that the prediction is all.
    """
    some, fixed = numbers(body.device), _constants(body.device)
    goes_on = torch.lerp(some.eye, motion, pace * torch.where(fixed.place, growth, some.one))
    predicted = last @ torch.lerp(goes_on, went, unforeseen)
    # Two rotations that are a small angle apart differ by the square root of 2 times that angle in all.
    innovation = (body - predicted).square().sum(0) @ fixed.by_axis
    usual = torch.maximum(noise[1], innovation / _BEYOND).clamp(min=_SMALLEST)
    taken = torch.maximum((1 - noise[0] / usual).clamp(min=_LEAST_TAKEN), free) * usable
    speed = taken.square() / (2 - taken)  # after Benedict and Bordner, 1962
    both = torch.lerp(predicted, body, (torch.stack([taken, speed]) @ fixed.columns)[:, None])
    orthonormalize(both)
    orthonormalize(both)
    return Weighed(both[0], both[1], innovation)


class _Constants(NamedTuple):
    place: Tensor  # (4,) bool, which column of a pose is its place
    by_axis: Tensor  # (4, 2) what squares in a pose's columns count for those of turns and of displacements
    columns: Tensor  # (2, 4) which columns are of turns and of displacements


@functools.cache
def _constants(device: torch.device) -> _Constants:
    turn = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    place = 1 - turn
    by_axis = torch.stack([turn / 6, place / 3], dim=1)
    return _Constants(
        place.to(device) > 0, by_axis.to(device), torch.stack([turn, place]).to(device)
    )
