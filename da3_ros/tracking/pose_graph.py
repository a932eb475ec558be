"""Pose graph over keyframes: odometry between successive ones, loops between distant ones, solved by GTSAM.

Nodes are similarities (GTSAM's Similarity3), since the scale of a long way drifts as its pose does. The work is cut
into pieces that fit into a step: ``start`` takes in what the graph is at that time, each ``advance`` does one
iteration of Levenberg and Marquardt. GTSAM holds Python's interpreter lock, so another thread would not help.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from da3_ros.errors import UnavailableError
from da3_ros.geometry.se3 import T_from
from da3_ros.tracking.similarity import invert_similarity, scale_of

_MOST_ITERATIONS = 15
_CONVERGED = 1e-3  # relative change of the error from which on more iterations move nothing
# Squared deviations beyond which a loop contradicts the others: 99.9 % of chi-squared with 7 degrees of freedom.
_GATE = 24.3
_PRIOR_STDDEV = 1e-6
# Python's lock is held for an iteration, which between 1000 keyframes took 50 ms with 300 loops from later laps to
# earlier ones, and 500 ms with 3600, which a drive of an hour may find.
_MOST_LOOPS = 300


@dataclass(frozen=True, eq=False)
class Constraint:
    """Keyframe ``b`` as seen from keyframe ``a``: S_a_b (4, 4) and its variance (7,).

    Of the variance: rotation about x, y, z (rad^2), translation (m^2), logarithm of the scale.
    """

    a: int
    b: int
    S_a_b: np.ndarray
    variance: np.ndarray

    def then(self, other: Constraint) -> Constraint:
        """From ``a`` by way of ``b`` to ``other.b``; rotation noise moves the far end sideways."""
        lever = float(np.sum(other.S_a_b[:3, 3] ** 2))
        variance = self.variance + other.variance
        variance[3:6] += self.variance[:3].mean() * lever + self.variance[6] * lever / 3
        return Constraint(self.a, other.b, self.S_a_b @ other.S_a_b, variance)

    def reversed(self) -> Constraint:
        """The same from ``b``."""
        lever = float(np.sum(self.S_a_b[:3, 3] ** 2))
        variance = self.variance.copy()
        variance[3:6] += self.variance[:3].mean() * lever
        return Constraint(self.b, self.a, invert_similarity(self.S_a_b), variance)


def import_gtsam() -> Any:
    """The solver. Raises UnavailableError where it is not installed."""
    try:
        import gtsam
    except ImportError as error:
        raise UnavailableError(
            f"loops.enabled is true, but the pose graph's solver cannot be imported ({error}): pip install gtsam, or "
            "set loops.enabled to false"
        ) from error
    return gtsam


class PoseGraph:
    """Where keyframes are in the map. Not thread-safe.

    Where there are to be ``loops``, GTSAM is needed: raises UnavailableError without it.
    """

    def __init__(self, loops: bool = True) -> None:
        self._gtsam: Any = import_gtsam() if loops else None
        self._poses: dict[int, np.ndarray] = {}  # keyframe -> S_map_keyframe, in the order of the way
        self._odometry: dict[int, Constraint] = {}  # keyframe -> from the one before it
        self._loops: list[Constraint] = []
        self._optimizer: Any = None
        self._solving: tuple[list[int], list[Constraint]] = ([], [])
        # GTSAM's own objects for what is above: making them costs more than an iteration.
        self._values: dict[int, Any] = {}
        self._factors: dict[Constraint, Any] = {}
        self._error = 0.0
        self.dropped: list[Constraint] = []  # loops that contradicted the others, since the last ``start``

    def __len__(self) -> int:
        return len(self._poses)

    def __contains__(self, keyframe: int) -> bool:
        return keyframe in self._poses

    @property
    def busy(self) -> bool:
        """Whether a solution is under way; keyframes cannot be removed meanwhile."""
        return self._optimizer is not None

    @property
    def loops(self) -> tuple[Constraint, ...]:
        """The loops that the map is held together by."""
        return tuple(self._loops)

    def pose(self, keyframe: int) -> np.ndarray:
        """S_map_keyframe (4, 4) as last solved."""
        return self._poses[keyframe]

    def poses(self) -> np.ndarray:
        """S_map_keyframe (K, 4, 4) of all keyframes, in the order of the way."""
        return np.stack(list(self._poses.values()))

    def begin(self, keyframe: int, S_map_keyframe: np.ndarray) -> None:
        """The first keyframe, which stays where it is."""
        self._poses[keyframe] = S_map_keyframe

    def extend(self, odometry: Constraint) -> None:
        """The next keyframe, ``odometry.b``, from the last one, ``odometry.a``."""
        self._odometry[odometry.b] = odometry
        self._poses[odometry.b] = self._poses[odometry.a] @ odometry.S_a_b

    def add_loops(self, loops: Iterable[Constraint]) -> None:
        """Take loops in; they move nothing before the next solution.

        Of too many, the one goes that repeats another one most: of the two whose ends are nearest along the way, the
        less sure one.
        """
        self._loops.extend(loops)
        while len(self._loops) > _MOST_LOOPS:
            ends = np.array([(loop.a, loop.b) for loop in self._loops])
            apart = np.abs(ends[:, None] - ends).sum(-1)
            np.fill_diagonal(apart, np.iinfo(apart.dtype).max)
            two = np.unravel_index(int(apart.argmin()), apart.shape)
            del self._loops[max(two, key=lambda index: float(self._loops[index].variance.sum()))]

    def chain(self, a: int, b: int) -> Constraint:
        """Keyframe ``b`` from ``a`` as last solved, with the variance of the odometry between them."""
        first, last = min(a, b), max(a, b)
        S = invert_similarity(self._poses[a]) @ self._poses[b]
        way = [self._odometry[number] for number in self._poses if first < number <= last]
        total = np.zeros(7)
        for one in way:
            total += one.variance
        total[3:6] += total[:3].mean() * float(np.sum(S[:3, 3] ** 2))
        return Constraint(a, b, S, total)

    def remove(self, keyframe: int) -> None:
        """Take out a keyframe that is neither the first nor the last; what it tied together stays tied.

        Its loops go over to the keyframe before it.
        """
        order = list(self._poses)
        at = order.index(keyframe)
        assert not self.busy and 0 < at < len(order) - 1
        into, out_of = self._odometry.pop(keyframe), self._odometry[order[at + 1]]
        self._odometry[order[at + 1]] = into.then(out_of)
        del self._poses[keyframe]
        self._loops = [_moved(loop, keyframe, into) for loop in self._loops]
        self._loops = [loop for loop in self._loops if loop.a != loop.b]

    def start(self) -> None:
        """Begin a solution with all that is known now."""
        self.dropped = []
        self._start()

    def advance(self) -> bool:
        """One iteration; true when the solution is done and ``pose`` gives it."""
        self._optimizer.iterate()
        error = self._optimizer.error()
        # Below one hundredth for each loop what is left is far smaller than what it is known to.
        settled = self._error - error <= _CONVERGED * self._error or error < 0.01 * len(self._loops)
        self._error = error
        if not settled and self._optimizer.iterations() < _MOST_ITERATIONS:
            return False
        order, loops = self._solving
        values = self._optimizer.values()
        similarities = {number: values.atSimilarity3(number) for number in order}
        solved = {number: self._matrix(similarity) for number, similarity in similarities.items()}
        worst = max(loops, key=lambda loop: self._misfit(loop, solved), default=None)
        if worst is not None and self._misfit(worst, solved) > _GATE:
            self._loops = [loop for loop in self._loops if loop is not worst]
            self.dropped.append(worst)
            self._start()
            return False
        for number in self._poses:  # in order: keyframes added meanwhile follow the one before them
            odometry = self._odometry.get(number)
            if number in solved or odometry is None:
                self._poses[number] = solved[number]
            else:
                self._poses[number] = self._poses[odometry.a] @ odometry.S_a_b
        self._optimizer, self._values = None, similarities
        return True

    def _start(self) -> None:
        gtsam = self._gtsam
        graph, values = gtsam.NonlinearFactorGraph(), gtsam.Values()
        order, loops = list(self._poses), list(self._loops)
        self._values = {
            number: self._values.get(number) or self._similarity(pose) for number, pose in self._poses.items()
        }
        for number, value in self._values.items():
            values.insert(number, value)
        fixed = gtsam.noiseModel.Isotropic.Sigma(7, _PRIOR_STDDEV)
        graph.add(gtsam.PriorFactorSimilarity3(order[0], values.atSimilarity3(order[0]), fixed))
        constraints = [*(self._odometry[number] for number in order[1:]), *loops]
        self._factors = {one: self._factors.get(one) or self._factor(one) for one in constraints}
        for factor in self._factors.values():
            graph.add(factor)
        self._optimizer = gtsam.LevenbergMarquardtOptimizer(graph, values)
        self._error = self._optimizer.error()
        self._solving = order, loops

    def _factor(self, constraint: Constraint) -> Any:
        noise = self._gtsam.noiseModel.Diagonal.Variances(constraint.variance)
        measured = self._similarity(constraint.S_a_b)
        return self._gtsam.BetweenFactorSimilarity3(constraint.a, constraint.b, measured, noise)

    def _misfit(self, loop: Constraint, poses: dict[int, np.ndarray]) -> float:
        """Squared deviations of a loop from ``poses``."""
        return self._squared(loop.S_a_b, invert_similarity(poses[loop.a]) @ poses[loop.b], loop.variance)

    def squared_deviations(self, first: Constraint, second: Constraint) -> float:
        """How far two statements of the same pair of keyframes are apart, in squared standard deviations."""
        return self._squared(first.S_a_b, second.S_a_b, first.variance + second.variance)

    def _squared(self, first: np.ndarray, second: np.ndarray, variance: np.ndarray) -> float:
        off = invert_similarity(first) @ second
        s = scale_of(off)
        turn = self._gtsam.Rot3.Logmap(self._gtsam.Rot3(off[:3, :3] / s))
        vector = np.concatenate([turn, off[:3, 3], [np.log(s)]])
        return float(np.sum(vector**2 / variance))

    def misfit(self, loop: Constraint) -> float:
        """Squared deviations by which ``loop`` contradicts the poses as last solved; about 7 if they agree."""
        return self._misfit(loop, self._poses)

    def _similarity(self, S: np.ndarray) -> Any:
        # GTSAM's acts as s (R x + t), ours as s R x + t.
        s = scale_of(S)
        return self._gtsam.Similarity3(self._gtsam.Rot3(S[:3, :3] / s), S[:3, 3] / s, s)

    @staticmethod
    def _matrix(similarity: Any) -> np.ndarray:
        s = similarity.scale()
        return T_from(s * similarity.rotation().matrix(), s * similarity.translation())


def _moved(loop: Constraint, gone: int, into: Constraint) -> Constraint:
    """``loop`` with its end at keyframe ``gone`` moved to the keyframe before it."""
    if loop.a == gone:
        return into.then(loop)
    if loop.b == gone:
        return loop.then(into.reversed())
    return loop
