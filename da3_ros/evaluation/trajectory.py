"""Trajectories against true ones: association by time, absolute and relative errors (through evo), scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from da3_ros.errors import InputError, UnavailableError
from da3_ros.geometry.se3 import invert

TrajectoryAlignment = Literal["none", "first", "se3", "sim3"]
DistanceUnit = Literal["frames", "metres"]


@dataclass(frozen=True)
class Trajectory:
    """Poses ``T_world_body`` (n, 4, 4) float64 at ``stamps_ns`` (n,) int64, which strictly increase.

    Raises InputError where they do not, or where lengths differ.
    """

    stamps_ns: np.ndarray
    T_world_body: np.ndarray

    def __post_init__(self) -> None:
        if self.T_world_body.shape != (len(self.stamps_ns), 4, 4):
            raise InputError(f"{len(self.stamps_ns)} stamps do not go with poses {self.T_world_body.shape}")
        if (np.diff(self.stamps_ns) <= 0).any():
            raise InputError("the stamps of a trajectory do not increase: sort it, and leave repeated stamps out")

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def __getitem__(self, index: Any) -> Trajectory:
        return Trajectory(self.stamps_ns[index], self.T_world_body[index])

    def nearest(self, stamp_ns: int, tolerance_ns: int) -> np.ndarray | None:
        """The pose (4, 4) nearest in time; None where none is within ``tolerance_ns``."""
        if not len(self):
            return None
        index = int(_nearest(self.stamps_ns, np.array([stamp_ns]))[0])
        return self.T_world_body[index] if abs(int(self.stamps_ns[index]) - stamp_ns) <= tolerance_ns else None

    @property
    def positions(self) -> np.ndarray:
        """(n, 3)."""
        return self.T_world_body[:, :3, 3]


@dataclass(frozen=True)
class ErrorStatistics:
    """Statistics of one error over a trajectory, and the error at each pose (or pair of poses)."""

    rmse: float
    mean: float
    median: float
    std: float
    smallest: float
    largest: float
    values: np.ndarray


@dataclass(frozen=True)
class Continuity:
    """How far an estimate moves from one pose to the next, in the truth's unit.

    ``largest_step``: longest displacement between two consecutive estimated poses, and ``true_step`` how far the truth
    moved meanwhile; ``largest_difference``: between an estimated displacement and the true one, as vectors in the
    bodies' axes, so that what the estimate's world is off by does not count.
    """

    largest_step: float
    true_step: float
    largest_difference: float


@dataclass(frozen=True)
class Similarity3:
    """x_true = scale * rotation @ x_estimated + translation."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def poses(self, T: np.ndarray) -> np.ndarray:
        """Rigid poses (n, 4, 4) of the estimate's world in the true one."""
        aligned = T.copy()
        aligned[:, :3, :3] = self.rotation @ T[:, :3, :3]
        aligned[:, :3, 3] = self.scale * T[:, :3, 3] @ self.rotation.T + self.translation
        return aligned


def associate(estimate: Trajectory, truth: Trajectory, tolerance_ns: int) -> tuple[Trajectory, Trajectory]:
    """The poses of both that belong together: equally many, in order, with the stamps of each.

    Each estimated pose is paired with the true one nearest in time if that is at most ``tolerance_ns`` away; a true
    pose that is nearest to several goes to the nearest of them. Raises InputError where nothing fits.
    """
    nearest = _nearest(truth.stamps_ns, estimate.stamps_ns)
    distance = np.abs(truth.stamps_ns[nearest] - estimate.stamps_ns) if len(truth) else np.empty(0)
    best: dict[int, int] = {}
    for index, other in enumerate(nearest):
        if distance[index] <= tolerance_ns and (other not in best or distance[index] < distance[best[other]]):
            best[int(other)] = index
    if not best:
        raise InputError(
            f"no estimated pose is within {tolerance_ns / 1e9:g} s of a true one: the estimate is {_span(estimate)}, "
            f"the truth {_span(truth)}; do both carry the stamps of the same clock?"
        )
    others = sorted(best)
    return estimate[[best[other] for other in others]], truth[others]


def align(estimate: Trajectory, truth: Trajectory, alignment: TrajectoryAlignment) -> Similarity3:
    """What brings ``estimate`` onto ``truth`` (associated, of equal length).

    ``first``: the first poses coincide; ``se3`` and ``sim3``: least squares of the positions (Umeyama 1991), the
    latter with scale. Raises InputError where the positions do not determine it (standing still, or on a line).
    """
    if alignment == "none":
        return Similarity3(1.0, np.eye(3), np.zeros(3))
    if alignment == "first":
        T = truth.T_world_body[0] @ invert(estimate.T_world_body[0])
        return Similarity3(1.0, T[:3, :3], T[:3, 3])
    _load_evo()
    from evo.core.geometry import GeometryException, umeyama_alignment

    try:
        rotation, translation, scale = umeyama_alignment(
            estimate.positions.T, truth.positions.T, with_scale=alignment == "sim3"
        )
    except GeometryException as error:
        raise InputError(
            f"{len(truth)} positions do not determine the {alignment} alignment ({error}): the motion must not stand "
            "still or stay on a line; align the first poses instead"
        ) from error
    return Similarity3(float(scale), rotation, translation)


def fit_worlds(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Similarity3, str]:
    """What brings estimated poses onto true ones, ``pairs`` of (4, 4) each, and how, for people.

    Rotation, shift and scale by least squares of the positions; where these determine none, the first poses coincide.
    """
    order = np.arange(len(pairs), dtype=np.int64)
    estimate, truth = (Trajectory(order, np.stack(poses)) for poses in zip(*pairs, strict=True))
    try:
        similarity = align(estimate, truth, "sim3")
        if np.isfinite(similarity.scale) and similarity.scale > 0:
            return similarity, f"brought there by rotation, shift and the scale {similarity.scale:.3g}"
    except (InputError, UnavailableError):
        pass
    return align(estimate, truth, "first"), "their first cameras laid on each other"


def absolute_error(estimate: Trajectory, truth: Trajectory, alignment: TrajectoryAlignment) -> ErrorStatistics:
    """ATE: distances between positions after ``align``, in the truth's unit. Both associated, of equal length."""
    _load_evo()
    from evo.core.metrics import APE, PoseRelation

    metric = APE(PoseRelation.translation_part)
    aligned = align(estimate, truth, alignment).poses(estimate.T_world_body)
    metric.process_data((_evo_path(truth.T_world_body), _evo_path(aligned)))
    return _statistics(metric)


def relative_error(
    estimate: Trajectory,
    truth: Trajectory,
    delta: float = 1.0,
    unit: DistanceUnit = "frames",
    scale: float = 1.0,
) -> tuple[ErrorStatistics, ErrorStatistics]:
    """RPE: translation (the truth's unit) and rotation (degrees) of the motion over each ``delta`` of the path.

    ``delta`` counts poses, or metres of the true path: all pairs that far apart, to within 10 %. ``scale``: of the
    estimate, as from ``align``. Raises InputError where no poses are ``delta`` apart: the trajectory is shorter, or its
    poses are further from each other.
    """
    _load_evo()
    from evo.core.filters import FilterException
    from evo.core.metrics import RPE, PoseRelation, Unit

    scaled = estimate.T_world_body.copy()
    scaled[:, :3, 3] *= scale
    paths = _evo_path(truth.T_world_body), _evo_path(scaled)
    found = []
    for relation in (PoseRelation.translation_part, PoseRelation.rotation_angle_deg):
        if unit == "frames":
            metric = RPE(relation, int(delta), Unit.frames)
        else:
            metric = RPE(relation, delta, Unit.meters, all_pairs=True, pairs_from_reference=True)
        try:
            metric.process_data(paths)
        except FilterException as error:
            raise InputError(
                f"the trajectory of {len(truth)} poses has none that are {delta:g} {unit} apart"
                f"{', to within 10 %' if unit == 'metres' else ''}: choose another distance"
            ) from error
        found.append(_statistics(metric))
    return found[0], found[1]


def continuity(estimate: Trajectory, truth: Trajectory, scale: float = 1.0) -> Continuity:
    """Of consecutive poses, both associated, of equal length; ``scale`` of the estimate, as from ``align``.

    Raises InputError for fewer than two poses.
    """
    if len(truth) < 2:
        raise InputError(f"{len(truth)} pose has no step to the next one")
    steps = _steps(estimate.T_world_body) * scale, _steps(truth.T_world_body)
    lengths, true = (np.linalg.norm(each, axis=1) for each in steps)
    largest = int(lengths.argmax())
    difference = np.linalg.norm(steps[0] - steps[1], axis=1).max()
    return Continuity(float(lengths[largest]), float(true[largest]), float(difference))


def _steps(T: np.ndarray) -> np.ndarray:
    """Displacements (n - 1, 3) from each of n poses to the next, in its body's axes."""
    return (np.diff(T[:, :3, 3], axis=0)[:, None] @ T[:-1, :3, :3])[:, 0]


def pool(parts: Sequence[ErrorStatistics]) -> ErrorStatistics:
    """Statistics of the errors of several trajectories together."""
    if len(parts) == 1:
        return parts[0]
    values = np.concatenate([part.values for part in parts])
    return ErrorStatistics(
        rmse=float(np.sqrt(np.square(values).mean())),
        mean=float(values.mean()),
        median=float(np.median(values)),
        std=float(values.std()),
        smallest=float(values.min()),
        largest=float(values.max()),
        values=values,
    )


def scale_error(estimate: Trajectory, truth: Trajectory) -> float:
    """By how much the estimate's lengths are too long (above 0) or too short, relative: from the sim3 alignment.

    0.05: five per cent too long. Raises InputError as ``align`` does.
    """
    return 1.0 / align(estimate, truth, "sim3").scale - 1.0


def _nearest(sorted_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the nearest of ``sorted_values`` for each of ``values``; nothing where there are none."""
    if not len(sorted_values):
        return np.empty(0, dtype=int)
    right = np.searchsorted(sorted_values, values).clip(1, max(1, len(sorted_values) - 1))
    right = np.minimum(right, len(sorted_values) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(values - sorted_values[left] <= sorted_values[right] - values, left, right)


def _span(trajectory: Trajectory) -> str:
    if not len(trajectory):
        return "empty"
    return f"from {trajectory.stamps_ns[0] / 1e9:.3f} to {trajectory.stamps_ns[-1] / 1e9:.3f} s"


def _load_evo() -> None:
    try:
        import evo.core.metrics  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"trajectories are compared with evo, which cannot be imported ({error}): pip install evo"
        ) from error


def _evo_path(T: np.ndarray) -> Any:
    """For evo, which refuses rotations that are off by more than 1e-6: those of files with few digits, and products of
    many float32 ones."""
    from evo.core.trajectory import PosePath3D

    poses = T.copy()
    poses[:, :3, :3] = _nearest_rotations(T[:, :3, :3])
    return PosePath3D(poses_se3=list(poses))


def _nearest_rotations(R: np.ndarray) -> np.ndarray:
    """The rotations (n, 3, 3) that differ least from matrices which nearly are some (Schoenemann 1966)."""
    left, _, right = np.linalg.svd(R)
    return left @ right


def _statistics(metric: Any) -> ErrorStatistics:
    found: Mapping[str, float] = metric.get_all_statistics()
    return ErrorStatistics(
        rmse=float(found["rmse"]),
        mean=float(found["mean"]),
        median=float(found["median"]),
        std=float(found["std"]),
        smallest=float(found["min"]),
        largest=float(found["max"]),
        values=np.asarray(metric.error, dtype=np.float64),
    )
