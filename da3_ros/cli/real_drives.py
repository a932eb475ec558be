"""Drives through recorded pictures with true poses and depth, and a network's own pipeline, beside the truth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from da3_ros.cli.demo_pictures import read_pictures
from da3_ros.cli.demo_sequence import SequenceCamera, SequenceStep
from da3_ros.cli.network_drives import PROCESS_RES, NetworkResult, nothing
from da3_ros.config import from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.errors import InputError
from da3_ros.evaluation.drive_score import DriveResult, DriveScore, starting_at
from da3_ros.geometry.se3 import T_BODY_OPTICAL, invert, transform_points
from da3_ros.pipeline import Pipeline

SOURCES = ("odometry", "range")  # of metres, those that a single camera has in such a folder
_ALL = 1_000_000  # moments of a folder, at most
_RANGES = 64  # pixels of the true depth in a step
_PARTS: Mapping[str, Any] = {
    "window.sets": 4, "model.execution": "uncompiled", "loops.enabled": False, "map.enabled": False,
}  # fmt: skip


def real_drives(folder: Path, sources: tuple[str, ...], values: Mapping[str, Any]) -> Iterator[NetworkResult]:
    """The result with each of ``sources`` as scale.source, of those in SOURCES.

    Of the first camera of a folder of pictures as of ``da3-ros demo --images``. Odometry is the true way, ranges are of
    the true depth.

    ``values``: parameters of the pipeline. Raises InputError where poses or depth are missing, ConfigError where
    parameters do not go together.
    """
    sequence = read_pictures(folder, _ALL)
    camera, steps = sequence.cameras[0], list(sequence.read())
    if any(step.T_world_tracked is None or step.images[0].depth is None for step in steps):
        raise InputError(f"{folder} has no true poses or no true depth: there is nothing to compare with")
    for source in sources:
        if source in SOURCES:
            yield _drive(folder.resolve().name, camera, steps, source, values)


def _drive(
    name: str, camera: SequenceCamera, steps: list[SequenceStep], source: str, values: Mapping[str, Any]
) -> NetworkResult:
    topic = {"odometry": "scale.odometry_topic", "range": "scale.range_topic"}[source]
    flat = {"cameras": [camera.name], "model.process_res": PROCESS_RES, "scale.source": source, topic: source}
    pipeline = Pipeline(from_flat({**flat, **_PARTS, **values}))
    pipeline.set_rig({camera.name: T_BODY_OPTICAL})  # the body is the camera
    random, kept, used = np.random.default_rng(0), [], Counter[str]()
    for step in steps:
        T_world_body = step.T_world_tracked @ invert(T_BODY_OPTICAL)
        given = T_world_body if source == "odometry" else None
        frame = Frame(camera.name, step.stamp_ns, step.images[0].rgb, "rgb8", "", camera.calibration, given)
        ranges = _ranges(camera, step, random) if source == "range" else None
        estimate = pipeline.step(FrameSet(step.stamp_ns, (frame,), ranges), OutputRequest())
        assert estimate is not None and estimate.tracking is not None
        used.update(estimate.tracking.scale_sources)
        if estimate.T_odom_base is not None and math.isfinite(estimate.scale.metres_per_unit):
            kept.append((step.stamp_ns, estimate.T_odom_base, T_world_body, estimate.tracking))
    pipeline.close()
    told: dict[str, Any] = {"source": source, "metres": len(kept) > 0, "sources": dict(used)}
    if len(kept) < 2:
        return NetworkResult(**{**nothing(name, len(kept), len(steps) - len(kept)), **told})
    stamps, estimated, true, tracking = zip(*kept, strict=True)
    unknown = np.full(len(kept), math.nan)
    score = DriveScore(
        name, np.array(stamps), np.stack(estimated), starting_at(np.stack(true), estimated[0]),
        [one.covariance for one in tracking], unknown, unknown.tolist(), unknown.tolist(),
        [one.status for one in tracking], 1,
    )  # fmt: skip
    found = score.result()
    return NetworkResult(**{field: getattr(found, field) for field in DriveResult.__dataclass_fields__}, **told)


def _ranges(camera: SequenceCamera, step: SequenceStep, random: np.random.Generator) -> np.ndarray:
    """Points (K, 3) of the body's frame, where the true depth is known."""
    depth = step.images[0].depth
    assert depth is not None and camera.calibration is not None
    v, u = np.nonzero(depth > 0)
    chosen = random.choice(len(u), min(_RANGES, len(u)), replace=False)
    u, v = u[chosen], v[chosen]
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.calibration.K).T
    return transform_points(T_BODY_OPTICAL, rays * depth[v, u, None])
