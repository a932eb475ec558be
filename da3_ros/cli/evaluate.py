"""``da3-ros evaluate``: what the estimates of recordings are worth, as numbers and as a page."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from glob import glob, has_magic
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from da3_ros.cli.evaluate_options import SEGMENT_S, add_arguments, check_options, output_files, settings_of
from da3_ros.cli.evaluate_print import print_metrics
from da3_ros.cli.text_file import write_text
from da3_ros.config import Config
from da3_ros.errors import Da3Error, InputError, UnavailableError
from da3_ros.evaluation.many import FailedRecording, evaluate_many
from da3_ros.evaluation.novel_views import check_novel_views
from da3_ros.evaluation.ray_workers import AUTO, RayWorkers
from da3_ros.evaluation.report import RecordingPart, write_report
from da3_ros.evaluation.report_cloud import gather_points
from da3_ros.evaluation.report_examples import read_pictures, with_pictures
from da3_ros.evaluation.score import jsonable
from da3_ros.evaluation.segments import LocalWorkers, Recording, SegmentResult, SegmentWorker, Workers
from da3_ros.evaluation.settings import WHOLE, EvaluationSettings
from da3_ros.ingest.bag import Bag
from da3_ros.replay.config import parse_overrides, replay_config
from da3_ros.replay.estimates import resolve

__all__ = ["add_arguments", "run"]


def run(args: argparse.Namespace) -> int:
    """Score; what cannot work is said before the network is loaded."""
    paths = [path.absolute() if args.ray else path for path in _paths(args.bag)]
    groups = [tuple(paths)] if args.together else [(path,) for path in paths]
    segment_s = SEGMENT_S if args.segment is None and args.ray else args.segment or 0.0
    many = len(groups) > 1 or bool(args.ray) or segment_s > 0
    settings = settings_of(args)
    check_options(args, many, segment_s)
    numbers, report = output_files(args)
    recordings, failed = _open(groups, args, settings, many, report is not None)
    _warn_without_evo()
    for recording in recordings if args.novel_views else ():
        check_novel_views(recording.config, args.novel_views)
    results: dict[str, SegmentResult]
    if many:
        with _workers(args, recordings) as workers:
            joined = evaluate_many(recordings, failed, segment_s, workers)
        metrics, results = joined.metrics, dict(joined.results)
    else:
        (recording,) = recordings
        result = SegmentWorker().run(recording, WHOLE)
        results = {recording.name: result}
        metrics = {
            "bags": [str(path) for path in recording.paths],
            **result.findings.summary(round(args.tolerance * 1e9)),
        }
    metrics = jsonable(metrics)
    parts = _pictured(recordings, results, metrics) if report else []
    text = json.dumps(metrics, indent=1)
    write_text(numbers, text)
    if report:
        write_report(report, metrics, parts)
    print(text) if args.json else print_metrics(metrics, numbers, report)
    return 1 if metrics.get("failed") else 0


def _warn_without_evo() -> None:
    """Whoever wants errors of poses hears before the work that there will be none. To import it would take a second."""
    if find_spec("evo") is None:
        print(
            "note: evo is not installed, so there will be no ATE, RPE and scale error: pip install evo",
            file=sys.stderr,
        )


def _paths(texts: Sequence[str]) -> list[Path]:
    """Recordings by name, and those that patterns stand for, in order."""
    found: list[Path] = []
    for text in texts:
        if Path(text).exists() or not has_magic(text):
            found.append(Path(text))
            continue
        matches = sorted(glob(text, recursive=True))
        if not matches:
            raise InputError(f"nothing fits the pattern '{text}'")
        found += map(Path, matches)
    return found


def _open(
    groups: Sequence[tuple[Path, ...]],
    args: argparse.Namespace,
    settings: EvaluationSettings,
    many: bool,
    pictured: bool,
) -> tuple[list[Recording], list[FailedRecording]]:
    """The recordings, each with its cameras; of several those that cannot be used apart, unless it is all of them."""
    recordings, failed = [], []
    problem: Da3Error | None = None
    for paths in groups:
        try:
            config = replay_config(Bag(paths), args.config, args.topics, parse_overrides(args.overrides))
        except Da3Error as error:
            if not many:
                raise
            problem = error
            failed.append(FailedRecording(" + ".join(map(str, paths)), 0, 1, 1, str(error)))
            continue
        config = _anywhere(config) if args.ray else config
        recordings.append(Recording(paths, config, settings, pictured, args.rerun))
    if not recordings and problem is not None:
        raise problem
    return recordings, failed


def _anywhere(config: Config) -> Config:
    """The same for processes that are in another folder."""
    files: dict[str, Any] = {
        name: str(Path(value).absolute())
        for name in ("checkpoint", "metric_checkpoint")
        if (value := getattr(config.model, name)) and Path(value).exists()
    }
    return replace(config, model=replace(config.model, **files))


def _workers(args: argparse.Namespace, recordings: Sequence[Recording]) -> AbstractContextManager[Workers]:
    if not args.ray:
        return nullcontext(LocalWorkers())
    try:
        on_cpu = all(recording.config.model.device == "cpu" for recording in recordings)
        return RayWorkers(args.ray, args.workers, on_cpu)
    except UnavailableError as error:
        if args.ray != AUTO:
            raise
        print(f"note: {error}; this process works alone", file=sys.stderr)
        return nullcontext(LocalWorkers())


def _pictured(
    recordings: Sequence[Recording], results: dict[str, SegmentResult], metrics: dict[str, Any]
) -> list[RecordingPart]:
    """What the report shows of each recording; what it cannot show is added to the notes of ``metrics``."""
    parts = []
    for recording in recordings:
        result = results.get(recording.name)
        if result is None or result.examples is None or result.cloud is None:
            continue
        config = recording.config
        topics = {
            camera: resolve(config.image_topic(camera), recording.settings.namespace) for camera in config.cameras
        }
        examples, frames = result.examples.chosen(), result.cloud.frames
        wanted = {(each.camera, each.stamp_ns) for _, each in examples} | {(f.camera, f.stamp_ns) for f in frames}
        pictures, notes = read_pictures(Bag(recording.paths), topics, wanted)
        own = metrics["recordings"][recording.name] if "recordings" in metrics else metrics
        own["notes"] += notes
        if own is not metrics:
            metrics["notes"] += [f"{recording.name}: {text}" for text in notes]
        parts.append(
            RecordingPart(recording.name, own, with_pictures(examples, pictures), gather_points(frames, pictures))
        )
    return parts
