"""What an evaluation is told: which estimates, which truth, and which part of the recording."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from da3_ros.evaluation.surface import Protocol

FOREVER_NS = 2**63 - 1


@dataclass(frozen=True)
class EvaluationSettings:
    """``estimates``: a recording of the node; ``external``: a trajectory file of another program, of ``external_frame``
    (None: of what the true poses are of), with its depth files (``external_depth``) of the first camera; neither: the
    pipeline is run.

    ``poses``, ``pose_topic`` and ``pose_tf`` (parent, child): where the truth is, if not in a topic with ground_truth
    in its name; ``pose_frame``: whose poses those are, if their messages do not say. ``depth_topics``: camera -> topic,
    if not ``ground_truth/depth`` beside its images; ``cloud_topic``: of point clouds, the truth of cameras without
    depth topic. ``surface``: fuse and compare surfaces too (Open3D).
    ``novel_views``: of how many pictures to make Gaussians, some held out (0: none).
    """

    namespace: str = ""
    estimates: Path | None = None
    external: Path | None = None
    external_frame: str | None = None
    external_depth: Path | None = None
    external_depth_scale: float = 1000.0
    poses: Path | None = None
    pose_topic: str | None = None
    pose_tf: tuple[str, str] | None = None
    pose_frame: str | None = None
    depth_topics: Mapping[str, str] = field(default_factory=dict)
    cloud_topic: str | None = None
    max_depth: float = float("inf")
    tolerance_s: float = 0.02
    surface: Protocol | None = None
    novel_views: int = 0


@dataclass(frozen=True)
class Span:
    """The part of a recording whose estimates count, by the time of recording; ``warm_ns`` more before it only fill the
    window."""

    start_ns: int = 0
    stop_ns: int = FOREVER_NS
    warm_ns: int = 0


WHOLE = Span()
