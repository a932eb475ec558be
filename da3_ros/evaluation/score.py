"""Collects a recording's errors frame by frame, and sums them up as the numbers of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import numpy as np
import torch

from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.evaluation.calibration import confidence_calibration
from da3_ros.evaluation.consistency import PairConsistency, PosedDepth, pair_consistency, summarize_consistency
from da3_ros.evaluation.depth import Alignment, DepthErrors, DepthPairs, depth_errors, pair_depths
from da3_ros.evaluation.relative_pose import benchmark_views, pose_auc, relative_pose_errors
from da3_ros.evaluation.trajectory import (
    Trajectory,
    TrajectoryAlignment,
    absolute_error,
    align,
    associate,
    relative_error,
    scale_error,
)
from da3_ros.evaluation.truth import depth_at_truth
from da3_ros.geometry.se3 import invert

ALIGNMENTS: tuple[Alignment, ...] = ("none", "median", "scale", "scale_shift")
_POSE_ALIGNMENTS: tuple[TrajectoryAlignment, ...] = ("none", "first", "se3", "sim3")
# Of each frame, for what needs the pixels of a whole recording at once.
_SAMPLED_PIXELS = 2000
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


class DepthScore:
    """Errors of the depth of one camera."""

    def __init__(self, max_depth: float):
        self._max_depth = max_depth
        self._random = np.random.default_rng(0)  # which pixels of a frame are kept
        self._errors: dict[Alignment, list[DepthErrors]] = {alignment: [] for alignment in ALIGNMENTS}
        self._stamps: list[int] = []
        self._sampled: list[DepthPairs] = []
        self._confidence: list[np.ndarray] = []
        self._error: list[np.ndarray] = []

    def add(self, frame: EstimatedFrame, true: np.ndarray, calibration: CameraCalibration) -> None:
        """Compare at the pixels of ``true`` (H, W) of the camera with ``calibration``."""
        predicted = depth_at_truth(frame.depth, frame.K, true.shape, calibration)
        pairs = pair_depths(predicted, true, max_depth=self._max_depth)
        for alignment in ALIGNMENTS:
            self._errors[alignment].append(depth_errors(pairs, alignment))
        self._stamps.append(frame.stamp_ns)
        chosen = self._random.permutation(len(pairs.true))[:_SAMPLED_PIXELS]
        self._sampled.append(DepthPairs(pairs.predicted[chosen], pairs.true[chosen], pairs.covered))
        if frame.confidence is not None and len(pairs.true):
            confidence = depth_at_truth(frame.confidence, frame.K, true.shape, calibration)
            scale = self._errors["median"][-1].scale
            error = np.abs(scale * predicted - true) / true
            valid = np.flatnonzero(np.isfinite(error) & np.isfinite(confidence) & (true <= self._max_depth))
            chosen = self._random.permutation(valid)[:_SAMPLED_PIXELS]
            self._confidence.append(confidence.reshape(-1)[chosen])
            self._error.append(error.reshape(-1)[chosen])

    def summary(self) -> dict[str, Any]:
        """Means over the frames; ``recording``: after one alignment for all of them, from a sample of the pixels."""
        found: dict[str, Any] = {"frames": len(self._stamps), "per_frame": {}, "recording": {}}
        for alignment, errors in self._errors.items():
            good = [each for each in errors if np.isfinite(each.abs_rel)]
            found["per_frame"][alignment] = {
                name: float(np.mean([getattr(each, name) for each in good])) if good else None
                for name in (*_ERRORS, "covered")
            }
            found["recording"][alignment] = asdict(depth_errors(DepthPairs.joined(self._sampled), alignment))
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

    def summary(self) -> dict[str, Any]:
        """See TemporalConsistency."""
        return asdict(summarize_consistency(self._pairs))


def score_trajectory(estimate: Trajectory, truth: Trajectory, tolerance_ns: int) -> dict[str, Any]:
    """ATE after each alignment, RPE, scale error and relative pose AUC of ``estimate`` against ``truth``.

    Both are poses of one frame. What cannot be computed is null, with the reason in ``notes``.
    """
    notes: list[str] = []
    found: dict[str, Any] = {"tolerance_s": tolerance_ns / 1e9, "estimated_poses": len(estimate), "notes": notes}
    estimate, truth = associate(estimate, truth, tolerance_ns)
    found["associated_poses"] = len(truth)
    found["path_length"] = float(np.linalg.norm(np.diff(truth.positions, axis=0), axis=1).sum())
    found["ate"] = {}
    for alignment in _POSE_ALIGNMENTS:
        found["ate"][alignment] = _tried(lambda a=alignment: _plain(absolute_error(estimate, truth, a)), notes)
    found["scale_error"] = _tried(lambda: scale_error(estimate, truth), notes)
    scale = _tried(lambda: align(estimate, truth, "sim3").scale, [])
    for name, factor in (("rpe", 1.0), ("rpe_scaled", scale)):
        errors = _tried(lambda f=factor: relative_error(estimate, truth, scale=f), notes) if factor else None
        found[name] = errors and {"translation": _plain(errors[0]), "rotation_deg": _plain(errors[1])}
    views = benchmark_views(len(truth))
    found["auc"] = _tried(
        lambda: pose_auc(relative_pose_errors(invert(estimate.T_world_body[views]), invert(truth.T_world_body[views]))),
        notes,
    )
    found["positions"] = {
        "stamps_ns": truth.stamps_ns.tolist(),
        "true": truth.positions.tolist(),
        "estimated": estimate.positions.tolist(),
    }
    return found


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


def _plain(statistics: Any) -> dict[str, float]:
    """Statistics without the error of each pose."""
    return {name: value for name, value in asdict(statistics).items() if name != "values"}


def _tried(compute: Any, notes: list[str]) -> Any:
    """What ``compute`` gives; None where the data do not determine it, with the reason in ``notes``."""
    try:
        return compute()
    except InputError as error:
        if str(error) not in notes:
            notes.append(str(error))
        return None
