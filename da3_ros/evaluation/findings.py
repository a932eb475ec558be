"""What an evaluation of a recording, or of a part of one, has found: parts are joined, then summed up as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from da3_ros.errors import InputError
from da3_ros.evaluation.run_settings import common
from da3_ros.evaluation.score import ConsistencyScore, DepthScore, TrajectoryPiece, score_trajectory
from da3_ros.evaluation.trajectory import Trajectory
from da3_ros.evaluation.up_axis import UpAxis, up_of_cameras, up_of_way
from da3_ros.ingest.remarks import Remarks


@dataclass
class RunFigures:
    """How the pipeline ran. ``elapsed_s``: from the first message on, with the scores and without loading the network;
    ``first_s`` of it until the first estimate, with what is compiled or captured for it. ``timings_ms``: of every step,
    by stage; ``dropped``: images by "camera: reason"."""

    sets: int = 0
    estimates: int = 0
    elapsed_s: float = 0.0
    first_s: float = 0.0
    recorded_s: float = 0.0
    timings_ms: dict[str, list[float]] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)

    def merge(self, other: RunFigures) -> None:
        """Add ``other``. ``elapsed_s`` adds up too, so that the rate is that of one worker."""
        self.sets += other.sets
        self.estimates += other.estimates
        self.elapsed_s += other.elapsed_s
        self.first_s += other.first_s
        self.recorded_s += other.recorded_s
        for stage, values in other.timings_ms.items():
            self.timings_ms.setdefault(stage, []).extend(values)
        self.dropped += other.dropped

    def summary(self) -> dict[str, Any]:
        """As in metrics.json."""
        return {
            "sets": self.sets,
            "estimates": self.estimates,
            "rate_hz": self.estimates / self.elapsed_s if self.elapsed_s else None,
            "recorded_s": self.recorded_s,
            "elapsed_s": self.elapsed_s,
            "first_s": self.first_s,
            "real_time_factor": self.recorded_s / self.elapsed_s if self.elapsed_s else None,
            "latency_ms": {stage: _percentiles(values) for stage, values in self.timings_ms.items()},
            "dropped": dict(sorted(self.dropped.items())),
        }


@dataclass
class Findings:
    """``depth`` and ``consistency`` by camera. ``windows``: AUC by threshold of each window. ``poses``: estimated ones
    (4, 4) of the true poses' frame by stamp, a dictionary for each piece without a jump of their world, beside the
    ``truth`` of that time. ``upward`` (3,): sum over ``looked`` pictures of what is up in them, in the true world.
    ``source``: what was scored, and ``settings``: with what (see run_settings). ``figures``: of the pipeline, where it
    was run. ``surface`` and ``novel_views`` are of whole recordings. ``left_out``: notes with numbers of messages."""

    source: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    frames: int = 0
    depth: dict[str, DepthScore] = field(default_factory=dict)
    consistency: dict[str, ConsistencyScore] = field(default_factory=dict)
    windows: list[dict[int, float]] = field(default_factory=list)
    poses: list[dict[int, np.ndarray]] = field(default_factory=lambda: [{}])
    truth: list[Trajectory | None] = field(default_factory=lambda: [None])
    truth_frame: str | None = None
    upward: np.ndarray = field(default_factory=lambda: np.zeros(3))
    looked: int = 0
    figures: RunFigures | None = None
    surface: dict[str, Any] | None = None
    novel_views: dict[str, Any] | None = None
    lost: Remarks = field(default_factory=Remarks)
    notes: list[str] = field(default_factory=list)
    left_out: Remarks = field(default_factory=Remarks)

    def merge(self, later: Findings) -> None:
        """Take over what ``later`` has found in another recording, or in a later part of the same. Of the settings what
        both have alike stays."""
        self.settings = common(self.settings, later.settings)
        self.frames += later.frames
        for camera, score in later.depth.items():
            if camera in self.depth:
                self.depth[camera].merge(score)
            else:
                self.depth[camera] = score
        for camera, consistency in later.consistency.items():
            if camera in self.consistency:
                self.consistency[camera].merge(consistency)
            else:
                self.consistency[camera] = consistency
        self.windows += later.windows
        self.poses += later.poses
        self.truth += later.truth
        self.upward, self.looked = self.upward + later.upward, self.looked + later.looked
        self.truth_frame = self.truth_frame if self.truth_frame is not None else later.truth_frame
        if self.figures is not None and later.figures is not None:
            self.figures.merge(later.figures)
        self.lost.merge(later.lost)
        self.left_out.merge(later.left_out)
        self.notes += [text for text in later.notes if text not in self.notes]

    def summary(self, tolerance_ns: int) -> dict[str, Any]:
        """All numbers. ``tolerance_ns``: between poses that belong together."""
        notes = [*self.notes, *self.left_out.texts()]
        run = dict(self.source)
        if self.figures is not None:
            run |= self.figures.summary()
        run |= self.settings
        return {
            "frames": self.frames,
            "depth": {camera: score.summary() for camera, score in self.depth.items()},
            "trajectory": self._score_poses(tolerance_ns, notes),
            "consistency": {camera: score.summary() for camera, score in self.consistency.items()},
            "windows": self._summarize_windows(),
            "surface": self.surface,
            "novel_views": self.novel_views,
            "run": run,
            "lost": self.lost.texts(),
            "notes": notes,
        }

    def _score_poses(self, tolerance_ns: int, notes: list[str]) -> dict[str, Any] | None:
        pieces = []
        for poses, truth in zip(self.poses, self.truth, strict=True):
            if truth is not None and len(poses) > 1:
                stamps = sorted(poses)
                estimate = Trajectory(np.array(stamps, dtype=np.int64), np.stack([poses[s] for s in stamps]))
                pieces.append(TrajectoryPiece(estimate, truth))
        if pieces:
            try:
                scored = score_trajectory(pieces, tolerance_ns)
                return {**scored, "frame": self.truth_frame, "up": str(self._up(pieces[0].truth))}
            except InputError as error:  # the depth has its numbers all the same, and so have other recordings
                notes.append(f"no errors of poses: {error}")
                return None
        if self.truth_frame is not None:
            count = sum(len(poses) for poses in self.poses)
            notes.append(f"there are {count} estimated poses of {self.truth_frame or 'the truth'}: no errors")
        return None

    def _up(self, truth: Trajectory) -> UpAxis:
        """Which axis of the true world is up."""
        if self.looked:
            return up_of_cameras(self.upward / self.looked, truth.positions)
        return up_of_way(truth.T_world_body)

    def _summarize_windows(self) -> dict[str, Any] | None:
        if not self.windows:
            return None
        auc = {threshold: float(np.mean([each[threshold] for each in self.windows])) for threshold in self.windows[0]}
        return {"count": len(self.windows), "auc": auc}


def merged(parts: Sequence[Findings]) -> Findings:
    """All ``parts`` together, in their order; they are used up."""
    first, *others = parts
    for part in others:
        first.merge(part)
    return first


def _percentiles(values: Sequence[float]) -> Mapping[str, float]:
    return {"p50": float(np.percentile(values, 50)), "p95": float(np.percentile(values, 95)), "max": float(max(values))}
