"""``da3-ros approximations``: what is faster than the exact window, how much, and how far its results are off."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from da3_ros.cli.bench_precision import pose_difference, read_pictures
from da3_ros.cli.bench_stillness import StillnessRow, measure_stillness
from da3_ros.cli.bench_table import print_report
from da3_ros.cli.bench_timing import Repeats, median_ms
from da3_ros.config import ANY_VIEW_VARIANTS
from da3_ros.datatypes import Frame, FrameSet, WindowPrediction
from da3_ros.errors import ConfigError
from da3_ros.model import load_model
from da3_ros.model.dense_head import set_half_resolution
from da3_ros.model.layout import Network
from da3_ros.model.matmul import set_matmul_format
from da3_ros.streaming import StreamingDA3, WindowConfig
from da3_ros.streaming.device import choose_device, choose_dtype, describe_device, set_cpu_threads

_STEP_NS = 33_000_000


@dataclass(frozen=True)
class Approximation:
    """What one line changes of the exact window."""

    matmul: str | None = None  # as in set_matmul_format
    key_reduction: int = 1  # as in WindowConfig
    half_resolution_head: bool = False
    guided_upsampling: bool = False


APPROXIMATIONS = {
    "exact": Approximation(),
    "bfloat16": Approximation("bfloat16"),
    "int8": Approximation("int8"),
    "fp8": Approximation("fp8"),
    "keys2": Approximation(key_reduction=2),
    "keys3": Approximation(key_reduction=3),
    "half": Approximation(half_resolution_head=True),
    "guided": Approximation(half_resolution_head=True, guided_upsampling=True),
    "fp8+keys2": Approximation("fp8", key_reduction=2),
}


@dataclass(frozen=True)
class ApproximationRow:
    """One step with one new view: median milliseconds, and differences of its results from those of the exact one.

    The columns are those of PrecisionRow; depth is that of the new view. ``over_5_percent``: of its pixels, how many
    percent are off by more than 5 % after the median ratio is taken out, which is what happens along edges.
    """

    variant: str
    approximation: str
    dtype: str
    views: int
    height: int
    width: int
    step_ms: float
    depth_percent: float
    scaled_depth_percent: float
    over_5_percent: float
    rotation_deg: float
    translation_percent: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros approximations``."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="pictures of one camera, in order")
    parser.add_argument("--variants", nargs="+", default=["da3-small"], choices=ANY_VIEW_VARIANTS, metavar="V")
    parser.add_argument("--views", nargs="+", type=int, default=[8, 16, 32], metavar="N", help="views in the window")
    parser.add_argument(
        "--approximations", nargs="+", default=list(APPROXIMATIONS)[1:], choices=list(APPROXIMATIONS)[1:], metavar="A",
        help=f"of {', '.join(list(APPROXIMATIONS)[1:])} (default: all)",
    )  # fmt: skip
    parser.add_argument(
        "--skip-below", nargs="+", type=float, metavar="GREY",
        help="instead, what these values of window.skip_below leave out of the first --pictures of DIR",
    )  # fmt: skip
    parser.add_argument("--pictures", type=int, default=50, metavar="N", help="with --skip-below (default %(default)s)")
    parser.add_argument(
        "--rate", type=float, default=30.0, metavar="HZ", help="of these pictures (default %(default)s)"
    )
    parser.add_argument("--checkpoint", help="weights of the one variant (default: random weights)")
    parser.add_argument("--accept-noncommercial", action="store_true", help="use weights with such a licence")
    parser.add_argument("--process-res", type=int, default=504, metavar="PX")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--execution", default="auto", choices=("auto", "eager", "graphs", "compiled"))
    parser.add_argument("--cpu-threads", type=int, default=0, metavar="N", help="0: all cores but one")
    parser.add_argument("--seconds", type=float, default=2.0, help="time spent on each measurement")
    parser.add_argument("--json", metavar="FILE", help="write all figures there ('-': standard output)")


def run(args: argparse.Namespace) -> int:
    """Measure every combination of variant, views and approximation beside the exact one, or left-out pictures."""
    if args.checkpoint and len(args.variants) > 1:
        raise ConfigError("--checkpoint belongs to one variant, but --variants names several")
    device = choose_device(args.device)
    set_cpu_threads(args.cpu_threads, device)
    rows = _stillness(args, device) if args.skip_below else _approximations(args, device)
    machine = {
        "device": describe_device(device),
        "torch": torch.__version__,
        "weights": args.checkpoint or "random: errors are indicative only",
        "pictures": str(args.folder),
    }
    print_report(machine, rows, args.json)
    return 0


def _approximations(args: argparse.Namespace, device: torch.device) -> Sequence[ApproximationRow]:
    cases = [(variant, views) for variant in args.variants for views in args.views]
    rows: list[ApproximationRow] = []
    for variant, views in tqdm(cases, desc="approximations", disable=not sys.stderr.isatty()):
        rows += measure(variant, views, args, device)
    return rows


def _stillness(args: argparse.Namespace, device: torch.device) -> Sequence[StillnessRow]:
    model = _load(args.variants[0], args, device)
    pictures = read_pictures(args.folder, args.pictures)
    return measure_stillness(model, pictures, args.skip_below, 1 / args.rate, args.process_res, args.views[0])


def _load(variant: str, args: argparse.Namespace, device: torch.device) -> Network:
    dtype = choose_dtype(args.dtype, device)
    return load_model(
        variant, args.checkpoint, device=device, dtype=dtype, accept_noncommercial=args.accept_noncommercial
    )


def measure(variant: str, views: int, args: argparse.Namespace, device: torch.device) -> list[ApproximationRow]:
    """The exact window of ``views`` pictures, and the same with each of the approximations."""
    dtype = choose_dtype(args.dtype, device)
    pictures = read_pictures(args.folder, views)
    # The reference view is fixed: a near-tie that rounding decides otherwise is another question.
    exact_window = WindowConfig(
        sets=views, process_res=args.process_res, ref_view="first", execution=args.execution, stride=1
    )
    rows: list[ApproximationRow] = []
    exact: WindowPrediction | None = None
    for name in ("exact", *args.approximations):
        approximation = APPROXIMATIONS[name]
        model = _load(variant, args, device)
        if approximation.matmul is not None:
            set_matmul_format(model, approximation.matmul)
        set_half_resolution(model, approximation.half_resolution_head, approximation.guided_upsampling)
        stream = StreamingDA3(model, replace(exact_window, key_reduction=approximation.key_reduction))
        prediction, step_ms = _run(stream, pictures, device, Repeats(args.seconds))
        exact = exact or prediction
        rows.append(_row(variant, name, str(dtype).removeprefix("torch."), prediction, exact, step_ms))
        stream.close()
        del model, stream
        gc.collect()
    return rows


def _run(
    stream: StreamingDA3, pictures: Sequence[np.ndarray], device: torch.device, repeats: Repeats
) -> tuple[WindowPrediction, float]:
    """The prediction for the window of all ``pictures``, and the median time of a step in it."""
    stamps = count(0, _STEP_NS)

    def step(picture: np.ndarray) -> WindowPrediction:
        stamp_ns = next(stamps)
        prediction = stream.step(FrameSet(stamp_ns, (Frame("camera", stamp_ns, picture),)))
        assert prediction is not None
        return prediction

    for picture in pictures:
        prediction = step(picture)
    assert prediction.T_cam_world is not None  # the next step overwrites what is kept here
    kept = replace(prediction, depth=prediction.depth.clone(), T_cam_world=prediction.T_cam_world.clone())
    return kept, median_ms(lambda: step(pictures[-1]), device, repeats)


def _row(
    variant: str, name: str, dtype: str, got: WindowPrediction, exact: WindowPrediction, step_ms: float
) -> ApproximationRow:
    assert got.T_cam_world is not None and exact.T_cam_world is not None
    ratio = (got.depth / exact.depth).double()
    scaled = (ratio / ratio.median() - 1).abs()
    poses = (prediction.T_cam_world[:, :3].double() for prediction in (got, exact))  # type: ignore[index]
    rotation, translation = pose_difference(*poses)
    return ApproximationRow(
        variant=variant,
        approximation=name,
        dtype=dtype,
        views=len(got.views),
        height=got.depth.shape[1],
        width=got.depth.shape[2],
        step_ms=step_ms,
        depth_percent=100 * float((ratio - 1).abs().median()),
        scaled_depth_percent=100 * float(scaled.median()),
        over_5_percent=100 * float((scaled > 0.05).double().mean()),
        rotation_deg=rotation,
        translation_percent=translation,
    )
