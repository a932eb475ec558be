"""``da3-ros bags``: what is in a recording, a layout to look at it, and recordings of folders of pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from da3_ros.cli.bags_plain import plain_sequence
from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.demo_folder import NOMINAL_RATE_HZ
from da3_ros.cli.demo_pictures import CALIBRATION_FILES, FORMAT, read_pictures
from da3_ros.cli.demo_sequence import Sequence, SequenceStep
from da3_ros.cli.text_file import write_text
from da3_ros.egress.foxglove import foxglove_layout
from da3_ros.errors import InputError
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_cameras import find_cameras

_ALL = sys.maxsize
_DEPTH = "/depth/image_rect"
_DEPTH_TYPES = {"32FC1": np.float32, "16UC1": np.uint16}
_TEN_METRES = {"32FC1": 10.0, "16UC1": 10_000.0}
_NEARER = 98.0  # percent of the pixels of a depth image that the colours of the layout are for


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros bags``."""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    info = commands.add_parser("info", help="topics, cameras, time, and what cannot be read")
    info.add_argument("bag", nargs="+", type=Path, metavar="BAG", help="rosbag2 folder or file, or ROS 1 bag")
    info.add_argument("--json", metavar="FILE", help="write everything there ('-': standard output, no table)")
    layout = commands.add_parser(
        "layout",
        help="write a Foxglove layout for a recording of the node or of da3-ros replay",
        description="Write a layout for Foxglove that shows a recording of the node, or of da3-ros replay: import it "
        "there (Layouts, Import from file). config/foxglove.json is the one for four_camera_ring.yaml.",
    )
    layout.add_argument("bag", nargs="+", type=Path, metavar="BAG", help="recording with the node's topics")
    layout.add_argument("--output", type=Path, required=True, metavar="FILE", help="the layout, a JSON file")
    made = commands.add_parser(
        "from-images",
        help="write a folder of pictures, with what is known of them, as a recording",
        description="Write a folder of pictures as a recording: pictures, CameraInfo, /tf_static with the rig, and "
        "where it is known the truth (/<camera>/ground_truth/depth, /ground_truth/odometry, /tf).",
        epilog=FORMAT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="with calibration.yaml (below) or meta.json; without, its pictures are those of one uncalibrated camera, "
        "and so are the frames of a video",
    )
    made.add_argument("--output", type=Path, required=True, metavar="OUT", help="OUT.mcap, or a new rosbag2 folder")
    made.add_argument(
        "--transport",
        choices=("raw", "compressed"),
        default="compressed",
        help="compressed: the bytes of JPEG and PNG files as they are (default); raw: pixels",
    )
    made.add_argument(
        "--rate",
        type=float,
        default=NOMINAL_RATE_HZ,
        metavar="HZ",
        help="of pictures without description (%(default)g)",
    )
    made.add_argument("--steps", type=int, default=_ALL, metavar="N", help="the first N moments (default: all)")


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    if args.action == "info":
        return _info(args)
    if args.action == "layout":
        return _layout(args)
    if args.steps < 1 or not 0 < args.rate < float("inf"):
        raise InputError(f"--steps must be at least 1 and --rate above 0, not {args.steps} and {args.rate:g}")
    described = any((args.folder / name).is_file() for name in CALIBRATION_FILES)
    if described:
        sequence = read_pictures(args.folder, args.steps)
    else:
        sequence = plain_sequence(args.folder, args.rate, args.steps)
    for note in sequence.notes:
        print(f"note: {note}", file=sys.stderr)
    steps = write_sequence(_watched(sequence), args.output, args.transport)
    if steps < sequence.steps:
        print(f"lost: {args.folder} announces {sequence.steps} pictures, and has {steps}", file=sys.stderr)
    print(f"{sequence.title}: {steps} moments of {', '.join(c.name for c in sequence.cameras)} in {args.output}")
    return 0


def _watched(sequence: Sequence) -> Sequence:
    """The same with a progress bar."""

    def read() -> Iterator[SequenceStep]:
        yield from tqdm(sequence.read(), total=sequence.steps, unit="moment", disable=not sys.stderr.isatty())

    return replace(sequence, read=read)


def _layout(args: argparse.Namespace) -> int:
    bag = Bag(args.bag)
    depths = sorted(name.removesuffix(_DEPTH) for name in bag.topics if name.endswith(_DEPTH))
    if not depths:
        raise InputError(f"the recording has no topic that ends in {_DEPTH}: record what the node publishes")
    namespaces = {name.rpartition("/")[0] for name in depths}
    if len(namespaces) > 1:
        raise InputError(f"the recording is of several nodes ({', '.join(sorted(namespaces))}): give one at a time")
    (namespace,) = namespaces
    cameras = [name.rpartition("/")[2] for name in depths]
    try:
        pictures = {camera.name: camera.image_topic for camera in find_cameras(bag) if camera.name in cameras}
    except InputError:  # no pictures were passed through
        pictures = {}
    made = foxglove_layout(cameras, namespace, pictures, farthest=_farthest(bag, [name + _DEPTH for name in depths]))
    write_text(args.output, json.dumps(made, indent=1))
    print(f"layout of {', '.join(cameras)}: {args.output}")
    return 0


def _farthest(bag: Bag, topics: Iterable[str]) -> float:
    """Where the colours of depth shall end, in the unit of the images: most of each camera's first one is nearer."""
    found, default = [], _TEN_METRES["32FC1"]
    for topic in topics:
        for message in islice((each.message for each in bag.messages([topic])), 1):
            if message.encoding not in _DEPTH_TYPES:
                continue
            default = _TEN_METRES[message.encoding]
            kind = np.dtype(_DEPTH_TYPES[message.encoding]).newbyteorder(">" if message.is_bigendian else "<")
            values = np.frombuffer(message.data, kind)
            values = values[np.isfinite(values) & (values > 0)]
            if values.size:
                found.append(float(np.percentile(values, _NEARER)))
    return float(f"{max(found, default=default):.2g}")


def _info(args: argparse.Namespace) -> int:
    bag = Bag(args.bag)
    try:
        cameras = [vars(camera) for camera in find_cameras(bag)]
    except InputError:  # a recording without pictures is a recording too
        cameras = []
    found: dict[str, Any] = {
        "start_ns": bag.start_ns,
        "duration_s": (bag.end_ns - bag.start_ns) / 1e9,
        "messages": bag.messages_total,
        "topics": {name: {"type": t.type, "messages": t.messages} for name, t in sorted(bag.topics.items())},
        "cameras": cameras,
        "lost": bag.lost,
        "unchecked": bag.unchecked,
    }
    if args.json:
        text = json.dumps(found, indent=1)
        if args.json == "-":
            print(text)
            return 0
        write_text(Path(args.json), text)
    print(f"{found['messages']} messages in {found['duration_s']:.1f} s")
    for name, topic in found["topics"].items():
        print(f"  {topic['messages']:8d}  {name}  ({topic['type']})")
    for camera in cameras:
        calibration = camera["info_topic"] or "no CameraInfo"
        print(f"camera {camera['name']}: {camera['image_topic']}, {calibration}")
    for text in bag.lost:
        print(f"lost: {text}", file=sys.stderr)
    if bag.unchecked:
        print(f"note: {bag.unchecked}", file=sys.stderr)
    return 0
