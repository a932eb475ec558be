"""``da3-ros demo``: a several-camera sequence through the real node over DDS, and what came out of it.

Write the sequence as a bag, start the node, record what it publishes, play the bag, stop everything, report.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

from da3_ros.cli.demo_accuracy import Accuracy, read_accuracy
from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.demo_pictures import FORMAT, read_pictures
from da3_ros.cli.demo_report import NO_POSES, Report, read_panels, read_report, table
from da3_ros.cli.demo_run import RunSettings, run_node
from da3_ros.cli.demo_sequence import Sequence, procedural_sequence
from da3_ros.cli.demo_sheet import draw_sheet
from da3_ros.cli.processes import terminable
from da3_ros.config import RANDOM_CHECKPOINT, VARIANTS
from da3_ros.errors import ConfigError

_MOTIONS = ("drive", "turn", "drone")
_MOMENTS = 3
_TRAINED, _UNTRAINED = "da3-nano", "da3-small"
_SMALL = "--cameras 2 --steps 3 --window-sets 1 --process-res 98"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros demo``. The defaults suit two CPU cores."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = FORMAT
    what = parser.add_argument_group("what the cameras see")
    what.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="real pictures: a folder with calibration.yaml or meta.json (default: a rendered room)",
    )
    what.add_argument("--cameras", type=int, metavar="N", help="cameras of the rendered rig (default: 3)")
    what.add_argument("--steps", type=int, metavar="N", help="moments (default: 24; with --images, all, at most 24)")
    what.add_argument("--motion", choices=_MOTIONS, default="drive", help="way of the rig (default: %(default)s)")
    what.add_argument("--seed", type=int, default=10, help="which room (default: %(default)s)")
    how = parser.add_argument_group("how they reach the node")
    how.add_argument(
        "--transport", choices=("raw", "compressed"), default="raw", help="message type (default: %(default)s)"
    )
    how.add_argument(
        "--rate",
        type=float,
        default=0.0,
        metavar="HZ",
        help="sets a second, come what may (default: as fast as the node answers)",
    )
    how.add_argument(
        "--qos", choices=("reliable", "best_effort"), default="reliable", help="of the images (default: %(default)s)"
    )
    node = parser.add_argument_group(
        "the network",
        f"Every variant runs on a CPU too, the big ones with patience and memory (da3-giant 6 GB, nested 8 GB). On two "
        f"cores: {_SMALL}",
    )
    node.add_argument(
        "--model",
        choices=VARIANTS,
        metavar="VARIANT",
        help=f"{', '.join(VARIANTS)} (default: {_TRAINED} where its weights are installed, else {_UNTRAINED})",
    )
    node.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="safetensors file or folder, hub id, or 'random': untrained (default: the installed weights, or random)",
    )
    node.add_argument(
        "--accept-noncommercial", action="store_true", help="use weights with such a licence (da3-ros weights list)"
    )
    node.add_argument(
        "--process-res", type=int, default=224, metavar="PX", help="longest side in the network (default: %(default)s)"
    )
    node.add_argument("--window-sets", type=int, default=3, metavar="N", help="sets in the window (default: 3)")
    node.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<n> (default: %(default)s)")
    out = parser.add_argument_group("what is left")
    out.add_argument("--out", type=Path, default=Path("demo_output"), metavar="DIR", help="(default: %(default)s)")
    out.add_argument("--keep", action="store_true", help="keep what an earlier run left in DIR, in a numbered copy")
    out.add_argument("--json", metavar="FILE", help="write all figures there ('-': standard output, no table)")


def run(args: argparse.Namespace) -> int:
    """The whole demo. Returns 1 when frames were lost although the player waited for the node."""
    sequence = _sequence(args)
    model, checkpoint = _network(args.model, args.checkpoint)
    settings = RunSettings(
        model=model,
        checkpoint=checkpoint,
        process_res=args.process_res,
        window_sets=args.window_sets,
        device=args.device,
        transport=args.transport,
        rate_hz=args.rate,
        reliability=args.qos,
        accept_noncommercial=args.accept_noncommercial,
    )
    config = settings.validate(sequence)
    out = _prepare_folder(args.out, args.keep)
    for note in sequence.notes:
        print(f"note: {note}", file=sys.stderr)
    bag, recording = out / "sequence", out / "recording"
    with terminable():
        write_sequence(sequence, bag, args.transport)
        played = run_node(sequence, settings, bag, recording, out)
    cameras = tuple(camera.name for camera in sequence.cameras)
    report = read_report(recording, played.messages, played.steps, cameras)
    accuracy = read_accuracy(bag, recording, config, metric=report.scale_source != "none")
    sheet = out / "sheet.png"
    _draw(sheet, sequence, report, accuracy, bag, recording, cameras)
    files = {"sheet": sheet, "recording": recording, "sequence": bag, "log": out / "node.log"}
    _print(args, sequence, report, accuracy, files)
    lost = any(counts.dropped for counts in report.cameras.values())
    return 1 if lost and not args.rate else 0


def _network(variant: str | None, checkpoint: str | None) -> tuple[str, str]:
    """Variant and checkpoint: what was asked for, and weights that come with the package before untrained ones."""
    from da3_ros.model.weights import BUNDLED

    installed = {file.stem for file in BUNDLED.glob("*.safetensors")}
    variant = variant or (_TRAINED if _TRAINED in installed else _UNTRAINED)
    if checkpoint is None:
        checkpoint = "" if variant in installed else RANDOM_CHECKPOINT
    return variant, checkpoint


def _sequence(args: argparse.Namespace) -> Sequence:
    if args.images is None:
        cameras = 3 if args.cameras is None else args.cameras
        steps = 24 if args.steps is None else args.steps
        return procedural_sequence(cameras, steps, seed=args.seed, motion=args.motion)
    if args.cameras is not None:
        raise ConfigError("--cameras is for the rendered rig: with --images the calibration names the cameras")
    return read_pictures(args.images, args.steps)


def _prepare_folder(folder: Path, keep: bool) -> Path:
    """A folder for the results, without those of an earlier run. Only what the demo itself makes is ever removed."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"--out {folder} is a file: name a folder")
    if keep and folder.exists():
        number = 2
        while folder.with_name(f"{folder.name}_{number}").exists():
            number += 1
        folder = folder.with_name(f"{folder.name}_{number}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for bag in (folder / "sequence", folder / "recording"):
            foreign = [file.name for file in bag.glob("*") if file.name != "metadata.yaml" and file.suffix != ".mcap"]
            if foreign:
                raise ConfigError(
                    f"{bag} holds {foreign[0]}, which the demo did not make: name another folder with --out"
                )
            shutil.rmtree(bag, ignore_errors=True)
        for name in ("sheet.png", "node.log", "recorder.log"):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be written: {error.strerror}") from error
    return folder


def _draw(
    path: Path, sequence: Sequence, report: Report, accuracy: Accuracy, bag: Path, recording: Path,
    cameras: tuple[str, ...],
) -> None:  # fmt: skip
    moments = read_panels(bag, recording, cameras, _MOMENTS if len(cameras) <= _MOMENTS else _MOMENTS - 1)
    if not moments:
        return
    first_ns = moments[0][0]
    warning = "" if report.trained else "UNTRAINED (random) weights: depth and confidence below mean nothing"
    metric = report.scale_source != "none"
    facts = [f"{report.variant} on {report.device} ({report.dtype})"]
    if report.rate_hz is not None:
        facts.append(f"{report.rate_hz:.1f} sets a second")
    if "total" in report.latency_ms:
        facts.append(f"{report.latency_ms['total'][0]:.0f} ms from first image to published")
    images = _count(len(cameras), "image")
    facts.append(f"{_count(report.estimates, 'estimate')} from {_count(report.sets, 'set')} of {images} over DDS")
    lines = [", ".join(facts), *(f"{name}: {text}" for name, text in accuracy.lines().items())]
    if not metric:
        lines.append("no source of scale: depth is in the network's own unit")
    if not report.poses:
        lines.append(f"poses: {NO_POSES}")
    named = [(f"t + {(stamp - first_ns) / 1e9:.1f} s", shown) for stamp, shown in moments]
    draw_sheet(path, f"da3_ros: {sequence.title}", lines, warning, named, unit="m" if metric else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print(
    args: argparse.Namespace, sequence: Sequence, report: Report, accuracy: Accuracy, files: dict[str, Path]
) -> None:
    paths = {name: str(path) for name, path in files.items() if path.exists()}
    if args.json:
        figures = {
            "sequence": sequence.title, "notes": sequence.notes, **report.to_json(), "accuracy": accuracy.to_json(),
            "files": paths,
        }  # fmt: skip
        text = json.dumps(figures, indent=1)
        if args.json == "-":
            print(text)
            return
        Path(args.json).write_text(text + "\n")
    pace = f"sent at {args.rate:g} Hz" if args.rate else "sent as fast as the node answered"
    print(table(report, f"{sequence.title}, {os.fspath(args.images) if args.images else 'rendered'}", pace))
    for name, text in (accuracy.lines() | paths).items():
        print(f"{name:<10} {text}")
