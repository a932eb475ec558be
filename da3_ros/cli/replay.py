"""``da3-ros replay``: a recording through the node's pipeline, into a recording with depth, clouds and poses."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from da3_ros.cli.text_file import write_text
from da3_ros.config import Config
from da3_ros.egress.estimates import output_request, output_topics
from da3_ros.errors import InputError
from da3_ros.evaluation.rerun_file import load_rerun
from da3_ros.evaluation.segments import Recording, SegmentWorker
from da3_ros.evaluation.settings import WHOLE, EvaluationSettings
from da3_ros.ingest.bag import Bag
from da3_ros.ingest.bag_scan import RawMessage
from da3_ros.pipeline import Pipeline
from da3_ros.replay.background import Background
from da3_ros.replay.config import parse_overrides, replay_config
from da3_ros.replay.estimates import BagReplay, Boundary, ClockReset, ReplayedEstimate, resolve
from da3_ros.replay.progress import recorded_time_bar
from da3_ros.replay.recording import PART_SETS
from da3_ros.replay.recording import Recording as Output

_NS = 1_000_000_000
_MOST_PASSING = 64  # messages that are handed over at once


@dataclass(frozen=True)
class Figures:
    """What ``--json`` writes. ``replay_s``: from the first message on, without loading the network; ``first_s`` of it
    until the first estimate. ``resumed_at_set``: what came of the sets before was written by an earlier run; over the
    last ``again_sets`` of them the network ran again. ``dropped``: images by camera and reason; ``lost``: what of the
    recording is damaged."""

    output: str
    cameras: tuple[str, ...]
    sets: int
    estimates: int
    resumed_at_set: int
    again_sets: int
    recorded_s: float
    replay_s: float
    first_s: float
    dropped: dict[str, int]
    lost: list[str]
    notes: list[str]
    description: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros replay``."""
    parser.add_argument(
        "bag", nargs="+", type=Path, metavar="BAG", help="rosbag2 folder or file, or ROS 1 bag; several are merged"
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="OUT.mcap, or a new rosbag2 folder. A run that was interrupted goes on when the same command is given "
        f"again, and ends with the same bytes: what is in OUT.parts (whole parts of {PART_SETS} sets) is not written "
        "again, but the network runs again from the start of the recording, or from the last jump of its clock, since "
        "the frame odom, its scale and the map depend on all that came before",
    )
    what = parser.add_argument_group("what is read and written")
    what.add_argument(
        "--topics", nargs="+", default=[], metavar="T", help="image topics (default: those with pictures, by type)"
    )
    what.add_argument("--namespace", default="", metavar="NS", help="of the node, as for the live one")
    what.add_argument(
        "--pass-through",
        nargs="*",
        metavar="T",
        help="original topics to write too; without names all but those that the output has itself, which are named",
    )
    what.add_argument("--start", type=float, default=0.0, metavar="S", help="seconds into the recording (default: 0)")
    what.add_argument("--duration", type=float, metavar="S", help="seconds of the recording (default: to its end)")
    node = parser.add_argument_group("the node's parameters")
    node.add_argument("--config", metavar="FILE", help="ROS parameter file, as for the node, or one of its examples")
    node.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="P=V", dest="overrides", help="such as window.sets=2"
    )
    parser.add_argument(
        "--rerun", type=Path, metavar="FILE", help="write pictures, depth, clouds and ways for the Rerun viewer (.rrd)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures there ('-': standard output, no table)")


def run(args: argparse.Namespace) -> int:
    """Replay; what cannot work is said before the network is loaded."""
    bag = Bag(args.bag)
    config = replay_config(bag, args.config, args.topics, parse_overrides(args.overrides))
    if args.output.exists():
        raise InputError(f"{args.output} exists already: give another --output, or delete it")
    if args.json and not Path(args.json).parent.is_dir():
        raise InputError(f"--json {args.json}: there is no folder {Path(args.json).parent}")
    if not (0 <= args.start < math.inf and 0 <= (args.duration or 0.0) < math.inf):
        raise InputError("--start and --duration are seconds, 0 or more")
    if args.rerun:
        load_rerun()
        if not (config.publish.depth and config.publish.camera_info):
            raise InputError("--rerun shows the output's depth: publish.depth and publish.camera_info must be true")
    pipeline = Pipeline(config, repeatable=True)
    figures = replay(bag, config, pipeline, args)
    if args.rerun:
        settings = EvaluationSettings(namespace=args.namespace, estimates=args.output)
        SegmentWorker().run(Recording(tuple(args.bag), config, settings, rerun=args.rerun), WHOLE)
    if args.json:
        text = json.dumps(asdict(figures), indent=1)
        if args.json == "-":
            print(text)
            return 0
        write_text(Path(args.json), text)
    _print(figures)
    return 0


def replay(bag: Bag, config: Config, pipeline: Pipeline, args: argparse.Namespace) -> Figures:
    """Run ``pipeline`` over ``bag`` as ``args`` say, and write what comes out."""
    replayed = BagReplay(bag, config, pipeline, args.namespace)
    start_ns = bag.start_ns + round(args.start * _NS)
    stop_ns = bag.end_ns if args.duration is None else min(bag.end_ns, start_ns + round(args.duration * _NS))
    if not start_ns < stop_ns:
        length_s = (bag.end_ns - bag.start_ns) / _NS
        raise InputError(f"nothing to replay from {args.start:g} s on: the recording is {length_s:.1f} s long")
    passed, left_out = _passed(bag, args.pass_through, config, args.namespace)
    about = {
        "bags": [str(path.resolve()) for path in args.bag],
        "span": [start_ns, stop_ns, bag.messages_total],
        "network": pipeline.description,
    }
    recording = Output(args.output, bag, config, args.namespace, passed, about)
    notes = [f"not passed through, since the output has its own: {', '.join(left_out)}"] if left_out else []
    estimates, first_s = 0, 0.0
    started = time.perf_counter()
    writing, passing = Background("da3-write"), list[RawMessage]()

    def write(call: Callable[..., None], *arguments: Any) -> None:
        """After the messages that came before."""
        if passing:
            writing.do(recording.pass_through, passing.copy())
            passing.clear()
        writing.do(call, *arguments)

    if recording.done.sets:
        print(_going_on(recording), file=sys.stderr)
    with recorded_time_bar(start_ns, stop_ns) as bar:

        def seen(raw: RawMessage) -> None:
            bar(raw.receive_ns)
            if raw.topic in passed:
                passing.append(raw)
            if len(passing) >= _MOST_PASSING:
                write(recording.pass_through, ())

        try:
            for item in replayed.run(
                output_request(config.cameras, output_topics(config).__contains__),
                start_ns,
                stop_ns,
                skip=recording.skip,
                seen=seen,
                also=passed,
                boundary=PART_SETS,
            ):
                if isinstance(item, ReplayedEstimate):
                    first_s = first_s or time.perf_counter() - started
                    write(recording.write, item, pipeline.description)
                    estimates += 1
                elif isinstance(item, Boundary):
                    write(recording.boundary, item.number)
                elif isinstance(item, ClockReset):
                    write(recording.reset, item.number)
                    notes.append(item.text)
            if not replayed.sets:
                raise InputError(f"no images belong together{_reasons(replayed)}")
            write(recording.finish)
            writing.finish()
        except BaseException:
            writing.stop()
            recording.abort()
            raise
    notes += [f"{topic} is not in the output: ROS 2 does not know its type" for topic in recording.untranslated]
    notes += [bag.unchecked] if bag.unchecked else []
    return Figures(
        output=str(args.output),
        cameras=config.cameras,
        sets=replayed.sets,
        estimates=estimates,
        resumed_at_set=recording.done.sets,
        again_sets=recording.done.sets - recording.first,
        recorded_s=(stop_ns - start_ns) / _NS,
        replay_s=time.perf_counter() - started,
        first_s=first_s,
        dropped={f"{camera}: {reason}": count for (camera, reason), count in sorted(replayed.dropped.items())},
        lost=bag.lost,
        notes=[*notes, *replayed.notes.values()],
        description=dict(pipeline.description),
    )


def _passed(
    bag: Bag, topics: Sequence[str] | None, config: Config, namespace: str
) -> tuple[frozenset[str], list[str]]:
    """The topics that go through; where none are named, all but those of the output, which come second."""
    if topics is None:
        return frozenset(), []
    missing = [topic for topic in topics if topic not in bag.topics]
    if missing:
        raise InputError(f"the recording has no topic {missing[0]}; there are: {', '.join(sorted(bag.topics))}")
    if topics:
        return frozenset(topics), []
    own = bag.topics.keys() & {resolve(topic, namespace) for topic in output_topics(config)}
    return frozenset(bag.topics) - own, sorted(own)


def _going_on(recording: Output) -> str:
    """How much of an earlier run's work is done again."""
    done, again = recording.done.sets, recording.done.sets - recording.first
    return (
        f"going on behind the first {done} sets, whose output is in {recording.folder}: the network runs again over "
        f"the last {again} of them, until window, frame odom, scale and map are as they were, without writing it again"
    )


def _reasons(replayed: BagReplay) -> str:
    return "".join(
        f"; {count} x {text}" for key, count in replayed.dropped.items() if (text := replayed.notes.get(key))
    )


def _print(figures: Figures) -> None:
    for text in figures.lost:
        print(f"lost: {text}", file=sys.stderr)
    for text in figures.notes:
        print(f"note: {text}", file=sys.stderr)
    for what, count in figures.dropped.items():
        print(f"not used: {count} images of {what}", file=sys.stderr)
    speed = figures.recorded_s / figures.replay_s
    print(f"{figures.sets} sets of {', '.join(figures.cameras)}, {figures.recorded_s:.1f} s, in {figures.replay_s:.1f} "
          f"s ({speed:.1f} times real time; the first estimate took {figures.first_s:.1f} s of it, loading the network "
          f"is not in it): {figures.output}")  # fmt: skip
