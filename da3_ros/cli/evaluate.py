"""``da3-ros evaluate``: what the estimates of a recording are worth, as numbers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from da3_ros.config import parameters, to_flat
from da3_ros.errors import InputError
from da3_ros.evaluation.evaluation import Evaluation
from da3_ros.evaluation.report import write_report
from da3_ros.evaluation.report_examples import DepthExamples, with_pictures
from da3_ros.evaluation.score import jsonable
from da3_ros.evaluation.settings import EvaluationSettings
from da3_ros.evaluation.surface import PROTOCOLS
from da3_ros.evaluation.truth import DEPTH_TOPIC
from da3_ros.ingest.bag import Bag
from da3_ros.replay.config import parse_overrides, replay_config
from da3_ros.replay.estimates import resolve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros evaluate``."""
    parser.add_argument("bag", nargs="+", type=Path, metavar="BAG", help="recording with pictures, and with the truth")
    parser.add_argument("--together", action="store_true", help="the BAGs are parts of one recording: merge them by time")
    parser.add_argument(
        "--output", type=Path, default=Path("metrics.json"), metavar="FILE", help="(default: %(default)s)"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page about them too: one HTML file")
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
    node = parser.add_argument_group("cameras and parameters, as for da3-ros replay")
    node.add_argument("--topics", nargs="+", default=[], metavar="T", help="image topics (default: all with pictures)")
    node.add_argument("--namespace", default="", metavar="NS", help="of the node")
    node.add_argument("--config", metavar="FILE", help="ROS parameter file of the node")
    node.add_argument("--set", nargs="+", action="extend", default=[], metavar="P=V", dest="overrides")


def run(args: argparse.Namespace) -> int:
    """Score; what cannot work is said before the network is loaded."""
    if args.external_depth and not args.external:
        raise InputError("--external-depth needs --external: the poses that belong to it")
    if args.estimates and args.external:
        raise InputError("--estimates and --external are two answers to what is scored: give one")
    bag = Bag(args.bag)
    config = replay_config(bag, args.config, args.topics, parse_overrides(args.overrides))
    settings = EvaluationSettings(
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
    )
    if args.report and not args.report.parent.is_dir():
        raise InputError(f"--report {args.report}: there is no folder {args.report.parent}")
    examples = DepthExamples(args.max_depth) if args.report else None
    evaluation = Evaluation(bag, config, settings, (examples,) if examples else ())
    metrics = jsonable({"bags": [str(path) for path in args.bag], **evaluation.run()})
    text = json.dumps(metrics, indent=1)
    try:
        args.output.write_text(text + "\n")
    except OSError as error:
        raise InputError(f"{args.output} cannot be written: {error.strerror or error}") from error
    if examples is not None:
        topics = {camera: resolve(config.image_topic(camera), args.namespace) for camera in config.cameras}
        default = {parameter.name: parameter.default for parameter in parameters(config.cameras)}
        chosen = {name: value for name, value in to_flat(config).items() if value != default[name]}
        write_report(args.report, metrics, with_pictures(bag, topics, examples.chosen()), chosen)
    print(text) if args.json else _print(metrics, args.output)
    return 0


def _frames(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    parent, colon, child = text.partition(":")
    if not (colon and parent and child):
        raise InputError(f"--pose-tf '{text}' names no two frames: write parent:child, for example map:base_link")
    return parent.lstrip("/"), child.lstrip("/")


def _print(metrics: dict[str, Any], output: Path) -> None:
    def show(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    for text in metrics["lost"]:
        print(f"lost: {text}", file=sys.stderr)
    notes = [*metrics["notes"], *((metrics["trajectory"] or {}).get("notes", ()))]
    for text in notes:
        print(f"note: {text}", file=sys.stderr)
    for camera, score in metrics["depth"].items():
        print(f"depth of {camera}, {score['frames']} frames")
        for alignment, errors in score["per_frame"].items():
            values = "  ".join(f"{name} {show(errors[name])}" for name in ("abs_rel", "rmse", "delta1", "covered"))
            print(f"  {alignment:12s} {values}")
        if score.get("confidence", {}).get("rank_correlation") is not None:
            print(f"  confidence against error: rank correlation {show(score['confidence']['rank_correlation'])}")
    trajectory = metrics["trajectory"]
    if trajectory:
        print(f"poses: {trajectory['associated_poses']} of {trajectory['estimated_poses']}")
        for alignment, errors in trajectory["ate"].items():
            print(f"  ATE {alignment:6s} rmse {show(errors and errors['rmse'])}")
        print(f"  scale error {show(trajectory['scale_error'])}")
        auc = trajectory["auc"] or {}
        print("  AUC " + "  ".join(f"@{threshold} {show(value)}" for threshold, value in auc.items()))
    if metrics["windows"]:
        values = "  ".join(f"@{threshold} {show(value)}" for threshold, value in metrics["windows"]["auc"].items())
        print(f"AUC within windows, {metrics['windows']['count']} of them: {values}")
    for camera, found in metrics["consistency"].items():
        if found["pairs"]:
            print(f"consistency of {camera}: median {show(found['median_error'])}, scale flicker "
                  f"{show(found['scale_flicker'])}, local {show(found['local_flicker'])}")  # fmt: skip
    surface = metrics["surface"]
    if surface:
        values = "  ".join(f"{name} {show(surface[name])}" for name in ("accuracy", "completeness", "chamfer", "f1"))
        print(f"surface of {surface['views']} views: {values}")
    print(f"all numbers: {output}")
