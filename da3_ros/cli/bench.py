"""``da3-ros bench``: where the time of a step goes, on whatever device there is."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from da3_ros.cli.bench_precision import PrecisionRow, measure_precision, read_pictures
from da3_ros.cli.bench_reference import ReferenceTimes, time_reference
from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.config import ANY_VIEW_VARIANTS, RANDOM_CHECKPOINT, from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.errors import ConfigError
from da3_ros.model import DepthAnything3, load_model
from da3_ros.pipeline import Pipeline
from da3_ros.streaming.device import choose_device, choose_dtype, describe_device, set_cpu_threads


@dataclass(frozen=True)
class Case:
    """One line of the table: ``views`` in the window, ``new`` of them new in each step, camera images of image_hw."""

    variant: str
    views: int
    new: int
    image_hw: tuple[int, int]


@dataclass(frozen=True)
class Row:
    """Median milliseconds of one case; None where it was not measured."""

    variant: str
    views: int
    new: int
    height: int
    width: int
    dtype: str
    forward: float  # model() on all views, all of them decoded
    encode: float  # new views up to the first cross-view layer
    mix: float  # all views from there on
    decode: float  # depth and confidence of the new views
    cameras: float  # poses and intrinsics of all views
    prepare: float  # Pipeline: upload, convert, resize, normalise
    network: float  # Pipeline: the four network stages and the window's bookkeeping
    output: float  # Pipeline: depth, confidence, clouds, download
    step: float  # Pipeline.step, host to host
    reference_forward: float | None = None
    reference_call: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros bench``."""
    parser.add_argument(
        "--variants", nargs="+", default=["da3-small", "da3-base"], choices=ANY_VIEW_VARIANTS, metavar="V"
    )
    parser.add_argument("--views", nargs="+", type=int, default=[4, 8], metavar="N", help="views in the window")
    parser.add_argument("--new", nargs="+", type=int, default=[1], metavar="N", help="new views in each step")
    parser.add_argument("--process-res", nargs="+", type=int, default=[504], metavar="PX")
    parser.add_argument(
        "--image-size", default="1280x960", metavar="WxH", help="size of the camera images (default %(default)s)"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each measurement")
    parser.add_argument("--reference", action="store_true", help="also time the depth-anything-3 package")
    parser.add_argument(
        "--precision",
        metavar="DIR",
        type=Path,
        help="instead, compare bfloat16 and float16 with float32 on the pictures in DIR (windows of --views of them)",
    )
    parser.add_argument(
        "--checkpoint", help="with --precision and one variant: weights to use (default: random weights)"
    )
    parser.add_argument("--accept-noncommercial", action="store_true", help="use weights with such a licence")
    parser.add_argument("--json", metavar="FILE", help="write all figures there ('-': standard output)")


def run(args: argparse.Namespace) -> int:
    """Measure every combination of variant, views, new views and resolution; print a table, write JSON."""
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device)
    if device.type == "cpu":
        set_cpu_threads(0)
    if args.reference and importlib.util.find_spec("depth_anything_3") is None:
        raise ConfigError("--reference needs the package depth-anything-3, which is not installed here")
    if args.precision:
        return _report(args, device, "", _precision_rows(args, device))
    image_hw = _parse_size(args.image_size)
    cases = [
        (Case(variant, views, new, image_hw), process_res)
        for variant in args.variants
        for process_res in args.process_res
        for views in args.views
        for new in args.new
        if views % new == 0
    ]
    if not cases:
        raise ConfigError("nothing to measure: every number of views must be a multiple of a number of new views")
    rows = []
    for case, process_res in tqdm(cases, desc="bench", disable=not sys.stderr.isatty()):
        rows.append(_measure(case, process_res, device, dtype, Repeats(args.seconds), args.reference))
    return _report(args, device, f"{image_hw[1]}x{image_hw[0]} rgb8", rows)


def _precision_rows(args: argparse.Namespace, device: torch.device) -> list[PrecisionRow]:
    if args.checkpoint and len(args.variants) > 1:
        raise ConfigError("--checkpoint belongs to one variant, but --variants names several")
    rows = []
    for variant in args.variants:
        for process_res in args.process_res:
            for views in args.views:
                pictures = read_pictures(args.precision, views)
                rows += measure_precision(
                    variant,
                    args.checkpoint,
                    pictures,
                    process_res,
                    device,
                    Repeats(args.seconds),
                    args.accept_noncommercial,
                )
    return rows


def _report(args: argparse.Namespace, device: torch.device, image: str, rows: Sequence[Row | PrecisionRow]) -> int:
    """Print the machine and the table, and write JSON where that is asked for."""
    machine = {
        "device": describe_device(device),
        "host": f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}",
        "torch": torch.__version__,
        "image": image or f"pictures of {args.precision}",
        "date": date.today().isoformat(),
    }
    if args.json:
        text = json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1)
        if args.json == "-":
            print(text)
            return 0
        Path(args.json).write_text(text + "\n")
    print(", ".join(f"{key}: {value}" for key, value in machine.items()))
    print(table(rows))
    return 0


def _parse_size(text: str) -> tuple[int, int]:
    width, separator, height = text.partition("x")
    if not separator or not width.isdigit() or not height.isdigit() or min(int(width), int(height)) < 14:
        raise ConfigError(f"--image-size must be WIDTHxHEIGHT in pixels, such as 1280x720, not {text!r}")
    return int(height), int(width)


def _measure(
    case: Case, process_res: int, device: torch.device, dtype: torch.dtype, repeats: Repeats, reference: bool
) -> Row:
    step, size_hw = _time_step(case, process_res, device, dtype, repeats)
    network = _time_network(case, size_hw, device, dtype, repeats)
    times = ReferenceTimes()
    if reference:
        times = time_reference(case.variant, case.views, size_hw, case.image_hw, process_res, device, repeats)
    return Row(
        variant=case.variant,
        views=case.views,
        new=case.new,
        height=size_hw[0],
        width=size_hw[1],
        dtype=str(dtype).removeprefix("torch."),
        **network,
        **step,
        reference_forward=times.forward_ms,
        reference_call=times.call_ms,
    )


def _time_step(
    case: Case, process_res: int, device: torch.device, dtype: torch.dtype, repeats: Repeats
) -> tuple[dict[str, float], tuple[int, int]]:
    """Pipeline.step with all outputs asked for, from uint8 images to arrays, both on the host."""
    names = tuple(f"camera{index}" for index in range(case.new))
    pipeline = Pipeline(
        from_flat(
            {
                "cameras": names,
                "model.variant": case.variant,
                "model.checkpoint": RANDOM_CHECKPOINT,
                "model.device": str(device),
                "model.dtype": str(dtype).removeprefix("torch."),
                "model.process_res": process_res,
                "window.sets": case.views // case.new,
            }
        )
    )
    images = np.random.default_rng(0).integers(0, 256, (*case.image_hw, 3), dtype=np.uint8)
    request = OutputRequest.everything(names)
    stamp_ns = 0
    stages: list[dict[str, float]] = []

    def step() -> None:
        nonlocal stamp_ns
        stamp_ns += 33_000_000
        frames = tuple(Frame(name, stamp_ns, images) for name in names)
        estimate = pipeline.step(FrameSet(stamp_ns, frames), request)
        assert estimate is not None
        stages.append(dict(estimate.timings_ms))

    for _ in range(case.views // case.new):
        step()
    stages.clear()
    total = median_ms(step, device, repeats)
    height, width = pipeline.canvas_hw
    pipeline.close()
    times = {name: float(np.median([stage[name] for stage in stages])) for name in ("prepare", "network", "output")}
    return {**times, "step": total}, (height, width)


def _time_network(
    case: Case, size_hw: tuple[int, int], device: torch.device, dtype: torch.dtype, repeats: Repeats
) -> dict[str, float]:
    """The network alone, its images being on the device already."""
    model = load_model(case.variant, None, device=device, dtype=dtype)
    assert isinstance(model, DepthAnything3)
    images = torch.rand((1, case.views, 3, *size_hw), device=device)
    model.prepare(*size_hw)
    with torch.inference_mode():
        state = model.encode_views(images)
        tokens = model.role_tokens(model.select_reference(state), case.views)
        features = model.mix_views(state, tokens)
        newest = features.views(slice(case.views - case.new, None))
        stages = {
            "forward": lambda: model(images),
            "encode": lambda: model.encode_views(images[:, : case.new]),
            "mix": lambda: model.mix_views(state, tokens),
            "decode": lambda: model.decode_dense(newest),
            "cameras": lambda: model.decode_cameras(features),
        }
        return {name: median_ms(stage, device, repeats) for name, stage in stages.items()}


def table(rows: Sequence[Row | PrecisionRow]) -> str:
    """The figures as a Markdown table; columns that nobody measured are left out."""
    heads = [item.name for item in fields(rows[0])]
    heads = [head for head in heads if any(getattr(row, head) is not None for row in rows)]
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    for row in rows:
        lines.append(" | ".join(_cell(getattr(row, head)) for head in heads))
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if not isinstance(value, float):
        return str(value)
    return f"{value:.1f}" if value >= 10 or value == 0 else f"{value:.3g}"
