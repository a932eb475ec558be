"""The options of ``da3-ros evaluate``, and what they mean together."""

from __future__ import annotations

import argparse
from pathlib import Path

from da3_ros.errors import InputError
from da3_ros.evaluation.compare import METRICS_FILE
from da3_ros.evaluation.rerun_file import load_rerun
from da3_ros.evaluation.settings import EvaluationSettings
from da3_ros.evaluation.surface import PROTOCOLS
from da3_ros.evaluation.truth import DEPTH_TOPIC

SEGMENT_S = 60.0  # with --ray
_REPORT = "report.html"


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
        "--output",
        type=Path,
        default=Path(METRICS_FILE),
        metavar="OUT",
        help=f"the numbers: a .json file, or a folder for {METRICS_FILE} and {_REPORT} (default: %(default)s)",
    )
    parser.add_argument(
        "--report",
        metavar="FILE",
        help=f"the page about them: one HTML file (default: {_REPORT} beside the numbers; 'none': no page)",
    )
    parser.add_argument(
        "--rerun", type=Path, metavar="FILE", help="write pictures, depth, clouds and ways for the Rerun viewer (.rrd)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON instead of a table")
    what = parser.add_argument_group("what is scored (without any of these: the pipeline is run over BAG)")
    what.add_argument("--estimates", type=Path, metavar="BAG", help="what the node or da3-ros replay has recorded")
    what.add_argument("--external", type=Path, metavar="FILE", help="another program's poses: TUM, KITTI, EuRoC, 4x4")
    what.add_argument(
        "--external-frame", metavar="F", help="whose poses they are, as /tf_static calls it (default: as the truth's)"
    )
    what.add_argument(
        "--external-depth", type=Path, metavar="DIR", help="its depth of the first camera, a file for each picture"
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
        help=f"score parts of S seconds, each with an empty start (default: {SEGMENT_S:g} with --ray, else 0: whole "
        "recordings)",
    )
    node = parser.add_argument_group("cameras and parameters, as for da3-ros replay")
    node.add_argument("--topics", nargs="+", default=[], metavar="T", help="image topics (default: all with pictures)")
    node.add_argument("--namespace", default="", metavar="NS", help="of the node")
    node.add_argument("--config", metavar="FILE", help="ROS parameter file of the node")
    node.add_argument("--set", nargs="+", action="extend", default=[], metavar="P=V", dest="overrides")


def settings_of(args: argparse.Namespace) -> EvaluationSettings:
    """What of the options every recording is evaluated with."""
    return EvaluationSettings(
        namespace=args.namespace,
        estimates=args.estimates,
        external=args.external,
        external_frame=args.external_frame,
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


def check_options(args: argparse.Namespace, many: bool, segment_s: float) -> None:
    """Raise InputError for options that do not go together, UnavailableError for what is not installed."""
    if args.external_depth and not args.external:
        raise InputError("--external-depth needs --external: the poses that belong to it")
    if args.external_frame and not args.external:
        raise InputError("--external-frame needs --external: the poses that are of it")
    if args.estimates and args.external:
        raise InputError("--estimates and --external are two answers to what is scored: give one")
    # Written so that NaN is refused too.
    if not (segment_s >= 0 and args.workers >= 0 and 0 <= args.tolerance < float("inf")):
        raise InputError("--segment, --workers and --tolerance must not be below 0")
    if not (args.max_depth > 0 and args.external_depth_scale > 0):
        raise InputError("--max-depth and --external-depth-scale must be above 0")
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
    if args.rerun and not args.rerun.parent.is_dir():
        raise InputError(f"--rerun {args.rerun}: there is no folder {args.rerun.parent}")


def output_files(args: argparse.Namespace) -> tuple[Path, Path | None]:
    """Where the numbers and the page go; a folder that is named for both is made.

    Raises InputError for folders that are not there.
    """
    numbers = args.output
    if numbers.suffix != ".json" or numbers.is_dir():
        try:
            numbers.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--output {numbers} can be neither folder nor .json file: {error.strerror}") from error
        numbers = numbers / METRICS_FILE
    report = numbers.with_name(_REPORT) if args.report is None else Path(args.report)
    shown = None if args.report == "none" else report
    for name, file in (("--output", numbers), ("--report", shown)):
        if file is not None and not file.parent.is_dir():
            raise InputError(f"{name} {file}: there is no folder {file.parent}")
    return numbers, shown


def _frames(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    parent, colon, child = text.partition(":")
    if not (colon and parent and child):
        raise InputError(f"--pose-tf '{text}' names no two frames: write parent:child, for example map:base_link")
    return parent.lstrip("/"), child.lstrip("/")
