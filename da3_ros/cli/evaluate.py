"""``da3-ros evaluate``: what the estimates of recordings are worth, as numbers and as a page."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from da3_ros.cli.evaluate_print import print_metrics
from da3_ros.config import Config, parameters, to_flat
from da3_ros.errors import Da3Error, InputError, UnavailableError
from da3_ros.evaluation.many import FailedRecording, evaluate_many
from da3_ros.evaluation.novel_views import check_novel_views
from da3_ros.evaluation.ray_workers import AUTO, RayWorkers
from da3_ros.evaluation.report import RecordingPart, write_report
from da3_ros.evaluation.report_cloud import gather_points
from da3_ros.evaluation.report_examples import read_pictures, with_pictures
from da3_ros.evaluation.rerun_file import load_rerun
from da3_ros.evaluation.score import jsonable
from da3_ros.evaluation.segments import LocalWorkers, Recording, SegmentResult, SegmentWorker, Workers
from da3_ros.evaluation.settings import EvaluationSettings, Span
from da3_ros.evaluation.surface import PROTOCOLS
from da3_ros.evaluation.truth import DEPTH_TOPIC
from da3_ros.ingest.bag import Bag
from da3_ros.replay.config import parse_overrides, replay_config
from da3_ros.replay.estimates import resolve

_SEGMENT_S = 60.0  # with --ray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros evaluate``."""
    parser.add_argument(
        "bag",
        nargs="+",
        metavar="BAG",
        help="recording with pictures, and with the truth; several, or a pattern in quotes ('bags/*.mcap'), are scored "
        "one by one and all together",
    )
    parser.add_argument(
        "--together", action="store_true", help="the BAGs are parts of one recording: merge them by time"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("metrics.json"), metavar="FILE", help="(default: %(default)s)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page about them too: one HTML file")
    parser.add_argument(
        "--rerun", type=Path, metavar="FILE", help="write pictures, depth, clouds and ways for the Rerun viewer (.rrd)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of a table")
    what = parser.add_argument_group("what is scored (without any of these: the pipeline is run over BAG)")
    what.add_argument("--estimates", type=Path, metavar="BAG", help="what the node or da3-ros replay has recorded")
    what.add_argument("--external", type=Path, metavar="FILE", help="poses of another program: TUM, KITTI or EuRoC")
    what.add_argument(
        "--external-depth", type=Path, metavar="DIR", help="its depth of the first camera, a file for each stamp"
    )
    what.add_argument(
        "--external-depth-scale", type=float, default=1000.0, metavar="N", help="whole numbers to a metre (%(default)g)"
    )
    what.add_argument(
        "--surface",
        choices=sorted(PROTOCOLS),
        help="fuse the depth to surfaces too (needs Open3D): with the distances of that data set in the DA3 benchmark",
    )
    what.add_argument(
        "--novel-views",
        type=int,
        default=0,
        metavar="N",
        help="make 3D Gaussians of N pictures and score views held out of them too (da3-giant on CUDA, with gsplat)",
    )
    truth = parser.add_argument_group("the truth")
    truth.add_argument("--poses", type=Path, metavar="FILE", help="TUM, KITTI or EuRoC file (default: a topic)")
    truth.add_argument(
        "--pose-topic", metavar="T", help="Odometry or poses (default: one with ground_truth in its name)"
    )
    truth.add_argument(
        "--pose-tf", metavar="P:C", help="transforms on /tf from frame P to frame C, for example map:base_link"
    )
    truth.add_argument("--pose-frame", metavar="F", help="whose poses they are (default: as their messages say)")
    truth.add_argument(
        "--depth-topic", nargs="+", default=[], metavar="C=T", help=f"of a camera (default: {DEPTH_TOPIC} beside it)"
    )
    truth.add_argument(
        "--cloud-topic",
        metavar="T",
        help="point clouds as the truth of cameras without depth (default: one with ground_truth in its name)",
    )
    truth.add_argument("--max-depth", type=float, default=float("inf"), metavar="M", help="leave truth beyond out")
    truth.add_argument(
        "--tolerance", type=float, default=0.02, metavar="S", help="between stamps that belong together (%(default)g)"
    )
    many = parser.add_argument_group("many recordings")
    many.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="work on a Ray cluster, one network on each GPU; auto: the one that Ray knows of, else this machine, and "
        "without Ray this process alone",
    )
    many.add_argument(
        "--workers", type=int, default=0, metavar="N", help="with --ray (default: one for each GPU, else for two CPUs)"
    )
    many.add_argument(
        "--segment",
        type=float,
        metavar="S",
        help=f"score parts of S seconds, each with an empty start (default: {_SEGMENT_S:g} with --ray, else 0: whole "
        "recordings)",
    )
    node = parser.add_argument_group("cameras and parameters, as for da3-ros replay")
    node.add_argument("--topics", nargs="+", default=[], metavar="T", help="image topics (default: all with pictures)")
    node.add_argument("--namespace", default="", metavar="NS", help="of the node")
    node.add_argument("--config", metavar="FILE", help="ROS parameter file of the node")
    node.add_argument("--set", nargs="+", action="extend", default=[], metavar="P=V", dest="overrides")


def run(args: argparse.Namespace) -> int:
    """Score; what cannot work is said before the network is loaded."""
    paths = [path.absolute() if args.ray else path for path in _paths(args.bag)]
    groups = [tuple(paths)] if args.together else [(path,) for path in paths]
    segment_s = _SEGMENT_S if args.segment is None and args.ray else args.segment or 0.0
    many = len(groups) > 1 or bool(args.ray) or segment_s > 0
    settings = _settings(args)
    _check(args, many, segment_s)
    recordings, failed = _open(groups, args, settings, many)
    for recording in recordings if args.novel_views else ():
        check_novel_views(recording.config, args.novel_views)
    results: dict[str, SegmentResult]
    if many:
        with _workers(args, recordings) as workers:
            joined = evaluate_many(recordings, failed, segment_s, workers)
        metrics, results = joined.metrics, dict(joined.results)
    else:
        (recording,) = recordings
        result = SegmentWorker().run(recording, Span(), progress=True)
        results = {recording.name: result}
        metrics = {
            "bags": [str(path) for path in recording.paths],
            **result.findings.summary(round(args.tolerance * 1e9)),
        }
    metrics = jsonable(metrics)
    parts = _pictured(recordings, results, metrics) if args.report else []
    text = json.dumps(metrics, indent=1)
    try:
        args.output.write_text(text + "\n")
    except OSError as error:
        raise InputError(f"{args.output} cannot be written: {error.strerror or error}") from error
    if args.report:
        write_report(args.report, metrics, parts, _chosen(recordings[0]))
    print(text) if args.json else print_metrics(metrics, args.output)
    return 1 if metrics.get("failed") else 0


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


def _settings(args: argparse.Namespace) -> EvaluationSettings:
    return EvaluationSettings(
        namespace=args.namespace,
        estimates=args.estimates,
        external=args.external,
        external_depth=args.external_depth,
        external_depth_scale=args.external_depth_scale,
        poses=args.poses,
        pose_topic=args.pose_topic,
        pose_tf=_frames(args.pose_tf),
        pose_frame=args.pose_frame,
        depth_topics=dict(pair.partition("=")[::2] for pair in args.depth_topic),
        cloud_topic=args.cloud_topic,
        max_depth=args.max_depth,
        tolerance_s=args.tolerance,
        surface=PROTOCOLS[args.surface] if args.surface else None,
        novel_views=args.novel_views,
    )


def _check(args: argparse.Namespace, many: bool, segment_s: float) -> None:
    if args.external_depth and not args.external:
        raise InputError("--external-depth needs --external: the poses that belong to it")
    if args.estimates and args.external:
        raise InputError("--estimates and --external are two answers to what is scored: give one")
    if segment_s < 0 or args.workers < 0:
        raise InputError("--segment and --workers must not be below 0")
    if args.workers and not args.ray:
        raise InputError("--workers is for a cluster: give --ray too")
    if many and (args.estimates or args.external or args.poses or args.rerun):
        raise InputError(
            "--estimates, --external, --poses and --rerun are for one recording: give one BAG (or --together), without "
            "--ray and --segment"
        )
    if segment_s > 0 and (args.surface or args.novel_views):
        raise InputError("--surface and --novel-views need whole recordings: give --segment 0")
    if args.rerun:
        load_rerun()
    for name, file in (("--report", args.report), ("--rerun", args.rerun)):
        if file and not file.parent.is_dir():
            raise InputError(f"{name} {file}: there is no folder {file.parent}")


def _open(
    groups: Sequence[tuple[Path, ...]], args: argparse.Namespace, settings: EvaluationSettings, many: bool
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
        recordings.append(Recording(paths, config, settings, pictured=args.report is not None, rerun=args.rerun))
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
        parts.append(
            RecordingPart(recording.name, own, with_pictures(examples, pictures), gather_points(frames, pictures))
        )
    return parts


def _chosen(recording: Recording) -> dict[str, Any]:
    """Parameters of the node that are not the default."""
    default = {parameter.name: parameter.default for parameter in parameters(recording.config.cameras)}
    return {name: value for name, value in to_flat(recording.config).items() if value != default[name]}


def _frames(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    parent, colon, child = text.partition(":")
    if not (colon and parent and child):
        raise InputError(f"--pose-tf '{text}' names no two frames: write parent:child, for example map:base_link")
    return parent.lstrip("/"), child.lstrip("/")
