"""Collects a recording's errors frame by frame, and sums them up as the numbers of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError, UnavailableError
from da3_ros.evaluation.calibration import confidence_calibration
from da3_ros.evaluation.consistency import PairConsistency, PosedDepth, pair_consistency, summarize_consistency
from da3_ros.evaluation.depth import Alignment, DepthErrors, DepthPairs, depth_errors, pair_depths
from da3_ros.evaluation.relative_pose import RelativePoseErrors, benchmark_views, pose_auc, relative_pose_errors
from da3_ros.evaluation.trajectory import (
    Continuity,
    ErrorStatistics,
    Trajectory,
    TrajectoryAlignment,
    absolute_error,
    associate,
    continuity,
    pool,
    relative_error,
    scale_error,
)
from da3_ros.evaluation.truth import depth_at_truth
from da3_ros.evaluation.units import UnitCheck
from da3_ros.geometry.se3 import invert

ALIGNMENTS: tuple[Alignment, ...] = ("none", "median", "scale", "scale_shift")
_POSE_ALIGNMENTS: tuple[TrajectoryAlignment, ...] = ("none", "first", "se3", "sim3")
# Of each frame, for what needs the pixels of a whole recording at once.
_SAMPLED_PIXELS = 2000
# Of the whole recording: 16 bytes each, and 64 while they are summed up.
_MOST_PIXELS = 1_000_000
_ERRORS = ("abs_rel", "rmse", "delta1", "delta2", "delta3")


@dataclass(frozen=True)
class EstimatedFrame:
    """One camera's estimate. ``depth`` (H, W) with its ``K``; ``confidence`` (H, W) and ``T_world_cam`` (4, 4) where
    they are known."""

    camera: str
    stamp_ns: int
    depth: np.ndarray
    K: np.ndarray
    confidence: np.ndarray | None = None
    T_world_cam: np.ndarray | None = None


@dataclass(frozen=True)
class SeenFrame:
    """An estimate beside the truth: ``true`` depth (H, W) at the pixels of the camera with ``calibration``, and its
    true pose ``T_true_cam`` (4, 4) in a world of its own; None where they are not known."""

    estimate: EstimatedFrame
    calibration: CameraCalibration
    true: np.ndarray | None = None
    T_true_cam: np.ndarray | None = None


class _SampledPairs(NamedTuple):
    """DepthPairs of few pixels, as small as they can be kept."""

    predicted: np.ndarray  # (n,) float32, as depth is
    true: np.ndarray
    covered: float

    def pairs(self) -> DepthPairs:
        predicted, true = (torch.from_numpy(values.astype(np.float64)) for values in (self.predicted, self.true))
        return DepthPairs(predicted, true, self.covered)


class DepthScore:
    """Errors of the depth of one camera. Memory grows by the errors of a frame, not by its pixels."""

    def __init__(self, max_depth: float):
        self._max_depth = max_depth
        self._errors: dict[Alignment, list[DepthErrors]] = {alignment: [] for alignment in ALIGNMENTS}
        self._stamps: list[int] = []
        self._units = UnitCheck()
        # Random pixels of each frame, in random order: the first few of them are a random choice too.
        self._each = _SAMPLED_PIXELS
        self._sampled: list[_SampledPairs] = []
        self._confidence: list[np.ndarray] = []
        self._error: list[np.ndarray] = []

    def add(self, frame: EstimatedFrame, true: np.ndarray, calibration: CameraCalibration) -> None:
        """Compare at the pixels of ``true`` (H, W) of the camera with ``calibration``."""
        predicted = depth_at_truth(frame.depth, frame.K, true.shape, calibration)
        self._units.add(predicted, true)
        pairs = pair_depths(predicted, true, max_depth=self._max_depth)
        for alignment in ALIGNMENTS:
            self._errors[alignment].append(depth_errors(pairs, alignment))
        self._stamps.append(frame.stamp_ns)
        # The same pixels whichever part of a recording the frame is scored in.
        random = np.random.default_rng(frame.stamp_ns % 2**63)
        chosen = _sample(random, len(pairs.true))[: self._each]
        kept, known = (values[chosen].numpy().astype(np.float32) for values in (pairs.predicted, pairs.true))
        self._sampled.append(_SampledPairs(kept, known, pairs.covered))
        if frame.confidence is not None and len(pairs.true):
            confidence = depth_at_truth(frame.confidence, frame.K, true.shape, calibration)
            scale = self._errors["median"][-1].scale
            error = np.abs(scale * predicted - true) / true
            valid = np.flatnonzero(np.isfinite(error) & np.isfinite(confidence) & (true <= self._max_depth))
            chosen = valid[_sample(random, len(valid))[: self._each]]
            self._confidence.append(confidence.reshape(-1)[chosen].astype(np.float32))
            self._error.append(error.reshape(-1)[chosen].astype(np.float32))
        self._thin_out()

    def merge(self, later: DepthScore) -> None:
        """Take over the frames of ``later``, which come after those that are here."""
        for alignment, errors in later._errors.items():
            self._errors[alignment] += errors
        self._stamps += later._stamps
        self._units.merge(later._units)
        self._sampled += later._sampled
        self._confidence += later._confidence
        self._error += later._error
        self._thin_out()
        self._cut()  # a shorter part has kept more of each frame

    def _thin_out(self) -> None:
        """Keep fewer pixels of each frame once there are too many in all."""
        while len(self._sampled) * self._each > _MOST_PIXELS and self._each > 1:
            self._each //= 2
            self._cut()

    def _cut(self) -> None:
        # Copies, as a view would keep the whole.
        self._sampled = [
            _SampledPairs(part.predicted[: self._each].copy(), part.true[: self._each].copy(), part.covered)
            for part in self._sampled
        ]
        self._confidence = [values[: self._each].copy() for values in self._confidence]
        self._error = [values[: self._each].copy() for values in self._error]

    def summary(self) -> dict[str, Any]:
        """Means over the frames; ``recording``: after one alignment for all of them, from a sample of the pixels;
        ``warning``: see UnitCheck."""
        found: dict[str, Any] = {"frames": len(self._stamps), "per_frame": {}, "recording": {}}
        if self._units.warning:
            found["warning"] = self._units.warning
        joined = DepthPairs.joined([part.pairs() for part in self._sampled])
        for alignment, errors in self._errors.items():
            good = [each for each in errors if np.isfinite(each.abs_rel)]
            found["per_frame"][alignment] = {
                name: float(np.mean([getattr(each, name) for each in good])) if good else None
                for name in (*_ERRORS, "covered")
            }
            found["recording"][alignment] = asdict(depth_errors(joined, alignment))
        scales = np.array([each.scale for each in self._errors["median"]])
        scales = scales[np.isfinite(scales)]
        if len(scales):
            # How much metres_per_unit varies from frame to frame, whatever it is.
            found["scale"] = {"median": float(np.median(scales)), "relative_std": float(scales.std() / scales.mean())}
        found["over_time"] = [
            {"stamp_ns": stamp, "abs_rel": raw.abs_rel, "abs_rel_median": aligned.abs_rel, "delta1": raw.delta1,
             "delta1_median": aligned.delta1, "scale": aligned.scale, "covered": raw.covered}
            for stamp, raw, aligned in zip(self._stamps, self._errors["none"], self._errors["median"], strict=True)
        ]  # fmt: skip
        if self._confidence:
            confidence, error = np.concatenate(self._confidence), np.concatenate(self._error)
            try:
                found["confidence"] = asdict(confidence_calibration(confidence, error))
            except InputError as problem:
                found["confidence"] = {"note": str(problem)}
        return found


def _sample(random: np.random.Generator, count: int) -> np.ndarray:
    """Indices of some of ``count`` pixels in random order. Always as many: the first ones must not depend on how many
    of them are kept."""
    return random.choice(count, min(count, _SAMPLED_PIXELS), replace=False)


class ConsistencyScore:
    """Agreement of each frame of one camera with the one before it; needs no truth."""

    def __init__(self) -> None:
        self._last: PosedDepth | None = None
        self._pairs: list[PairConsistency] = []

    def add(self, frame: EstimatedFrame) -> None:
        """The next frame of the camera; one without pose interrupts."""
        posed = None
        if frame.T_world_cam is not None:
            posed = PosedDepth(torch.from_numpy(frame.depth.astype(np.float32)), frame.K, frame.T_world_cam)
        if posed is not None and self._last is not None:
            self._pairs.append(pair_consistency(self._last, posed))
        self._last = posed

    def merge(self, later: ConsistencyScore) -> None:
        """Take over the pairs of ``later``, which come after those that are here."""
        self._pairs += later._pairs
        self._last = later._last

    def summary(self) -> dict[str, Any]:
        """See TemporalConsistency."""
        return asdict(summarize_consistency(self._pairs))


@dataclass(frozen=True)
class TrajectoryPiece:
    """Estimated poses of one frame, without a jump of their world in between, and the true ones around that time."""

    estimate: Trajectory
    truth: Trajectory


def score_trajectory(pieces: Sequence[TrajectoryPiece], tolerance_ns: int) -> dict[str, Any]:
    """ATE after each alignment, RPE, continuity, scale error and relative pose AUC.

    Each piece is aligned by itself, and then the errors of all count alike. What cannot be computed is null, with the
    reason in ``notes``. Raises InputError where no pose has a true one.
    """
    notes: list[str] = []
    associated = [_tried(lambda p=piece: associate(p.estimate, p.truth, tolerance_ns), notes) for piece in pieces]
    pairs = [pair for pair in associated if pair is not None]
    if not pairs:
        raise InputError(notes[0])
    found: dict[str, Any] = {
        "tolerance_s": tolerance_ns / 1e9,
        "estimated_poses": sum(len(piece.estimate) for piece in pieces),
        "notes": notes,
        "pieces": len(pairs),
        "associated_poses": sum(len(truth) for _, truth in pairs),
    }
    lengths = [float(np.linalg.norm(np.diff(truth.positions, axis=0), axis=1).sum()) for _, truth in pairs]
    found["path_length"] = sum(lengths)
    found["ate"] = {
        alignment: _pooled([_tried(lambda e=e, t=t, a=alignment: absolute_error(e, t, a), notes) for e, t in pairs])
        for alignment in _POSE_ALIGNMENTS
    }
    scales = [_tried(lambda p=pair: 1.0 + scale_error(*p), notes) for pair in pairs]
    weights = [length for length, scale in zip(lengths, scales, strict=True) if scale is not None]
    known = [scale for scale in scales if scale is not None]
    found["scale_error"] = float(np.average(known, weights=weights)) - 1.0 if sum(weights) else None
    for name, scaled in (("rpe", False), ("rpe_scaled", True)):
        errors = [
            _tried(lambda e=e, t=t, f=1.0 / scale if scaled else 1.0: relative_error(e, t, scale=f), notes)
            for (e, t), scale in zip(pairs, scales, strict=True)
            if scale is not None or not scaled
        ]
        both = [each for each in errors if each is not None]
        found[name] = {
            "translation": _pooled([each[0] for each in both]),
            "rotation_deg": _pooled([each[1] for each in both]),
        } if both else None  # fmt: skip
    for name, scaled in (("continuity", False), ("continuity_scaled", True)):
        found[name] = _worst(
            [
                continuity(estimate, truth, 1.0 / scale if scaled and scale else 1.0)
                for (estimate, truth), scale in zip(pairs, scales, strict=True)
                if len(truth) > 1 and (scale is not None or not scaled)
            ]
        )
    auc = [_tried(lambda p=pair: _relative_poses(*p), notes) for pair in pairs]
    errors_of_pairs = [each for each in auc if each is not None]
    found["auc"] = pose_auc(RelativePoseErrors.joined(errors_of_pairs)) if errors_of_pairs else None
    found["positions"] = {
        "stamps_ns": np.concatenate([truth.stamps_ns for _, truth in pairs]).tolist(),
        "true": np.concatenate([truth.positions for _, truth in pairs]).tolist(),
        "estimated": np.concatenate([estimate.positions for estimate, _ in pairs]).tolist(),
        "starts": np.cumsum([0, *(len(truth) for _, truth in pairs[:-1])]).tolist(),
    }
    return found


def _relative_poses(estimate: Trajectory, truth: Trajectory) -> RelativePoseErrors:
    """Of the views that the benchmark would take."""
    views = benchmark_views(len(truth))
    return relative_pose_errors(invert(estimate.T_world_body[views]), invert(truth.T_world_body[views]))


def _worst(parts: Sequence[Continuity]) -> dict[str, float] | None:
    """Of all pieces: the largest step, the true one there, and the largest difference; None without any."""
    if not parts:
        return None
    most = max(parts, key=lambda part: part.largest_step)
    return asdict(replace(most, largest_difference=max(part.largest_difference for part in parts)))


def _pooled(parts: Sequence[ErrorStatistics | None]) -> dict[str, float] | None:
    """Statistics of all errors together, without the error of each pose; None without any."""
    there = [part for part in parts if part is not None]
    return {name: value for name, value in asdict(pool(there)).items() if name != "values"} if there else None


def jsonable(value: Any) -> Any:
    """``value`` for JSON: dataclasses and arrays opened, numbers that JSON has not (NaN, infinity) null."""
    if is_dataclass(value) and not isinstance(value, type):
        return jsonable(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): jsonable(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return jsonable(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [jsonable(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _tried(compute: Any, notes: list[str]) -> Any:
    """What ``compute`` gives; None where the data do not determine it or evo is missing, the reason in ``notes``."""
    try:
        return compute()
    except (InputError, UnavailableError) as error:
        if str(error) not in notes:
            notes.append(str(error))
        return None
