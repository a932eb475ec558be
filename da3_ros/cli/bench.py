"""``da3-ros bench``: what a step takes, beside its targets, its arithmetic and the reference, on whatever device."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from da3_ros.cli import bench_ros
from da3_ros.cli.bench_floor import matmul_tflops
from da3_ros.cli.bench_growth import GrowthPoint, growth_cases, measure_growth
from da3_ros.cli.bench_plot import draw_growth, require_matplotlib, write_csv
from da3_ros.cli.bench_precision import PrecisionRow, measure_precision, read_pictures
from da3_ros.cli.bench_ray_pose import RayPoseRow, measure_ray_pose
from da3_ros.cli.bench_reference import Reference, ReferenceTimes, require_reference
from da3_ros.cli.bench_stages import StageRow, measure_stages
from da3_ros.cli.bench_step import Case, StepRow, make_row, measure_engine, measure_node
from da3_ros.cli.bench_table import print_report
from da3_ros.cli.bench_timing import Repeats
from da3_ros.cli.node_parameters import add_parameter_option, parse_parameter
from da3_ros.config import ANY_VIEW_VARIANTS
from da3_ros.errors import ConfigError
from da3_ros.geometry.views import plan_views
from da3_ros.streaming.device import choose_device, choose_dtype, describe_device, set_cpu_threads

_LATENCY = ("variant", "views", "new", "height", "width", "dtype", "engine", "engine_p95", "with_tracking",
            "with_tracking_p95", "with_clouds", "steps_per_s", "floor", "start_s", "memory_gib")  # fmt: skip
_COMPARISON = ("variant", "new", "engine", "target_ms", "reference_forward", "reference_call", "times_forward",
               "times_call", "target")  # fmt: skip
# What is measured where --variants does not say it; a step of the larger ones takes minutes on a CPU.
_VARIANTS = {"cuda": ("da3-small", "da3-base", "da3-large", "da3-giant"), "cpu": ("da3-small",)}
_PROCESS_RES = (504,)
# As many pixels as 1280x720, but 4:3, so that process_res 504 makes 504x378 of it.
_IMAGE_SIZE = "1120x840"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros bench``."""
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=ANY_VIEW_VARIANTS,
        metavar="V",
        help="default: all on CUDA, da3-small on the CPU",
    )
    parser.add_argument("--views", nargs="+", type=int, default=[8], metavar="N", help="views in the window")
    parser.add_argument("--new", nargs="+", type=int, default=[1, 4], metavar="N", help="new views in each step")
    parser.add_argument("--process-res", nargs="+", type=int, metavar="PX", help=f"default: {_PROCESS_RES[0]}")
    parser.add_argument(
        "--image-size",
        metavar="WxH",
        help=f"size of the camera images (default: {_IMAGE_SIZE}; with --ros 1280x720 on CUDA, 960x720 on the CPU)",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each measurement")
    parser.add_argument("--reference", action="store_true", help="also time the depth-anything-3 package")
    parser.add_argument(
        "--matmul-tflops", type=float, metavar="T", help="rate for the arithmetic's floor (default: measured)"
    )
    add_parameter_option(parser, "model.execution:=graphs")
    parser.add_argument(
        "--plot",
        metavar="DIR",
        type=Path,
        help="instead, draw how a step's cost grows with views, cameras and image size, and write the points there",
    )
    parser.add_argument("--stages", action="store_true", help="instead, time the stages of the network by themselves")
    parser.add_argument(
        "--ray-pose", action="store_true", help="instead, time cameras from ray maps (--reference: theirs too)"
    )
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
    bench_ros.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure every combination of variant, views, new views and resolution; print a table, write JSON."""
    device = choose_device(args.device)
    image_hw = parse_image_size(args.image_size or (bench_ros.scenario(device).image_size if args.ros else _IMAGE_SIZE))
    image = f"{image_hw[1]}x{image_hw[0]} rgb8"
    if args.reference:
        require_reference()
    if args.ros:  # the node chooses for itself how many threads it takes
        rows = bench_ros.measure_ros(args, image_hw, device)
        return _report(args, device, image, rows, (bench_ros.RATES, bench_ros.LATENCIES))
    set_cpu_threads(dict(map(parse_parameter, args.parameters)).get("model.cpu_threads", 0), device)
    args.variants = args.variants or _VARIANTS[device.type]
    args.process_res = args.process_res or _PROCESS_RES
    if args.ray_pose:
        return _report(args, device, "ray maps of made-up cameras", _ray_pose_rows(args, device))
    if args.precision:
        return _report(args, device, f"pictures of {args.precision}", _precision_rows(args, device))
    if args.plot:
        return _plot(args, device, image_hw)
    cases = _cases(args, device, image_hw)
    if args.stages:
        return _report(args, device, "random ones of the network's size", _stage_rows(args, cases))
    steps = _step_rows(args, cases)
    compared = any(row.target is not None or row.reference_call is not None for row in steps)
    return _report(args, device, image, steps, (_LATENCY, _COMPARISON) if compared else (_LATENCY,))


def _cases(args: argparse.Namespace, device: torch.device, image_hw: tuple[int, int]) -> list[Case]:
    parameters = dict(map(parse_parameter, args.parameters))
    cases = [
        Case(variant, views, new, image_hw, process_res, device, args.dtype, parameters)
        for variant in args.variants
        for process_res in args.process_res
        for views in args.views
        for new in args.new
        if views % new == 0
    ]
    if not cases:
        raise ConfigError("nothing to measure: every number of views must be a multiple of a number of new views")
    return cases


def _step_rows(args: argparse.Namespace, cases: Sequence[Case]) -> list[StepRow]:
    repeats = Repeats(args.seconds)
    tflops = _tflops(args, cases[0].device)
    rows = []
    reference: Reference | None = None
    known: dict[tuple[str, int, int], ReferenceTimes] = {}  # it computes the whole window, whatever is new in it
    for case in tqdm(cases, desc="bench", disable=not sys.stderr.isatty()):
        node = measure_node(case, repeats)  # first, so that start_s has nothing to build on
        engine = measure_engine(case, repeats)
        key = (case.variant, case.views, case.process_res)
        if args.reference and key not in known:
            if reference is None or reference.variant != case.variant:
                reference = None  # makes room for the next one
                reference = Reference(case.variant, case.device)
            known[key] = ReferenceTimes(
                reference.forward_ms(case.views, engine.size_hw, repeats),
                reference.call_ms(case.views, case.image_hw, case.process_res, repeats),
            )
        rows.append(make_row(case, engine, node, known.get(key, ReferenceTimes()), tflops))
    return rows


def _stage_rows(args: argparse.Namespace, cases: Sequence[Case]) -> list[StageRow]:
    rows = []
    for case in tqdm(cases, desc="bench", disable=not sys.stderr.isatty()):
        size_hw = plan_views({"camera": (case.image_hw, None)}, case.process_res, {})["camera"].view.canvas_hw
        dtype = choose_dtype(case.dtype, case.device)
        row = measure_stages(case.variant, case.views, case.new, size_hw, case.device, dtype, Repeats(args.seconds))
        rows.append(row)
    return rows


def _plot(args: argparse.Namespace, device: torch.device, image_hw: tuple[int, int]) -> int:
    require_matplotlib()
    args.plot.mkdir(parents=True, exist_ok=True)
    parameters = dict(map(parse_parameter, args.parameters))
    cases = {
        variant: Case(variant, 8, 1, image_hw, args.process_res[0], device, args.dtype, parameters)
        for variant in args.variants
    }
    total = sum(len(list(growth_cases(case))) for case in cases.values())
    machine = f"{describe_device(device)}, torch {torch.__version__}, {date.today().isoformat()}"
    tflops = _tflops(args, device)
    with tqdm(total=total, desc="bench", disable=not sys.stderr.isatty()) as bar:

        def progress(text: str) -> None:
            bar.set_postfix_str(text)
            bar.update()

        points: list[GrowthPoint] = []
        for variant, case in cases.items():
            reference = Reference(variant, device) if args.reference else None
            points += measure_growth(case, Repeats(args.seconds), tflops, reference, progress)
            # After each variant, so that a run that is stopped leaves those before.
            write_csv(points, args.plot / "growth.csv")
            files = draw_growth(points, machine, args.plot)
    code = _report(args, device, f"{image_hw[1]}x{image_hw[0]} rgb8", points)
    if args.json != "-":
        print(f"written: {', '.join(str(path) for path in [args.plot / 'growth.csv', *files])}")
    return code


def _tflops(args: argparse.Namespace, device: torch.device) -> float:
    """TFLOP/s of the floor: as given, or measured."""
    if args.matmul_tflops is not None:
        if args.matmul_tflops <= 0:
            raise ConfigError(f"--matmul-tflops must be more than 0, not {args.matmul_tflops:g}")
        return args.matmul_tflops
    return matmul_tflops(device, choose_dtype(args.dtype, device), Repeats(min(args.seconds, 1.0)))


def _ray_pose_rows(args: argparse.Namespace, device: torch.device) -> list[RayPoseRow]:
    return [
        row
        for process_res in args.process_res
        for views in args.views
        for row in measure_ray_pose(views, process_res, device, Repeats(args.seconds), args.reference)
    ]


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


def _report(
    args: argparse.Namespace,
    device: torch.device,
    image: str,
    rows: Sequence[Any],
    tables: Sequence[tuple[str, ...]] = ((),),
) -> int:
    """Print the machine and one table for each tuple of columns, and write JSON where that is asked for."""
    machine = {
        "device": describe_device(device),
        "host": f"{platform.machine()}, {platform.python_implementation()} {platform.python_version()}",
        "torch": torch.__version__,
        "image": image,
        "date": date.today().isoformat(),
    }
    print_report(machine, rows, args.json, tables)
    return 0


def parse_image_size(text: str, option: str = "--image-size") -> tuple[int, int]:
    """Height and width in pixels of WIDTHxHEIGHT, given as ``option``; raises ConfigError for anything else."""
    width, separator, height = text.partition("x")
    if not separator or not width.isdigit() or not height.isdigit() or min(int(width), int(height)) < 14:
        raise ConfigError(f"{option} must be WIDTHxHEIGHT in pixels, such as 1280x720, not {text!r}")
    return int(height), int(width)
