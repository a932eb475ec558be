"""``da3-ros memory``: what a window is predicted to need, and what it takes."""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import nn

from da3_ros.cli.bench_table import table
from da3_ros.cli.weights_memory import peak_bytes
from da3_ros.config import VARIANTS as VARIANT_NAMES
from da3_ros.datatypes import View, WindowView
from da3_ros.errors import ConfigError
from da3_ros.model import VARIANTS
from da3_ros.streaming.device import choose_device, choose_dtype, choose_execution, describe_device
from da3_ros.streaming.memory import GIB, make_blueprint, predict_memory
from da3_ros.streaming.networks import make_window_network
from da3_ros.streaming.rig import Rig
from da3_ros.streaming.window import SlidingWindow, WindowConfig


@dataclass(frozen=True)
class MemoryRow:
    """GiB of one window, one new view a step: predicted, and measured from the network's making to the second step of a
    full window.

    Measured: on a GPU the most that torch had allocated, and reserved for itself; on a CPU the growth of the largest
    resident memory.
    """

    variant: str
    views: int
    height: int
    width: int
    dtype: str
    weights: float
    kept: float
    step: float
    total: float
    allocated: float = math.nan
    reserved: float | None = None
    error_percent: float = math.nan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``da3-ros memory``."""
    parser.add_argument("--variants", nargs="+", default=["da3-small"], choices=VARIANT_NAMES, metavar="V")
    parser.add_argument("--views", nargs="+", type=int, default=[1, 8, 16, 32], metavar="N", help="views in the window")
    parser.add_argument(
        "--sizes", nargs="+", default=["504x378"], metavar="WxH", help="of the network's images, multiples of 14"
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16", "float16"))
    parser.add_argument("--execution", default="auto", choices=("auto", "eager", "graphs", "compiled"))
    parser.add_argument("--json", metavar="FILE", help="write all figures there ('-': standard output)")


def run(args: argparse.Namespace) -> int:
    """One line for each combination of variant, size and views."""
    device = choose_device(args.device)
    dtype = choose_dtype(args.dtype, device)
    rows = [
        memory_row(variant, views, size, device, dtype, args.execution)
        for variant in args.variants
        for size in map(_parse_size, args.sizes)
        for views in args.views
    ]
    if args.json:
        text = json.dumps({"device": describe_device(device), "rows": [asdict(row) for row in rows]}, indent=1)
        if args.json == "-":
            print(text)
            return 0
        Path(args.json).write_text(text + "\n")
    print(f"{describe_device(device)}, torch {torch.__version__}")
    print(table(rows))
    return 0


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()) or int(width) % 14 or int(height) % 14 or "0" in (width, height):
        raise ConfigError(f"--sizes must be WIDTHxHEIGHT in pixels, multiples of 14 such as 504x378, not {text!r}")
    return int(height), int(width)


def memory_row(
    variant: str, views: int, size_hw: tuple[int, int], device: torch.device, dtype: torch.dtype, execution: str
) -> MemoryRow:
    """Predict, and run a window with as many sets of one view."""
    config = WindowConfig(sets=views, execution=execution)
    need = predict_memory(make_blueprint(VARIANTS[variant], dtype), config, size_hw)
    row = MemoryRow(
        variant,
        views,
        *size_hw,
        str(dtype).removeprefix("torch."),
        *(part / GIB for part in (need.weights, need.kept, need.step, need.total)),
    )
    reserved = None
    if device.type == "cuda":
        allocated, reserved = _measure_cuda(variant, config, size_hw, device, dtype)
    else:
        # In a process of its own, because memory that was taken before would be taken again unnoticed.
        with ProcessPoolExecutor(1, get_context("spawn")) as executor:
            allocated = executor.submit(_measure_host, variant, config, size_hw, dtype).result()
    return replace(
        row,
        allocated=allocated / GIB,
        reserved=None if reserved is None else reserved / GIB,
        error_percent=100 * (need.total / allocated - 1),
    )


def _measure_cuda(
    variant: str, config: WindowConfig, size_hw: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> tuple[int, int]:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before, reserved_before = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    _run(variant, config, size_hw, device, dtype)
    torch.cuda.synchronize(device)
    return (
        torch.cuda.max_memory_allocated(device) - before,
        torch.cuda.max_memory_reserved(device) - reserved_before,
    )


def _measure_host(variant: str, config: WindowConfig, size_hw: tuple[int, int], dtype: torch.dtype) -> int:
    torch.nn.functional.conv2d(torch.ones(1, 8, 8, 8), torch.ones(8, 8, 3, 3))  # libraries that are loaded on demand
    before = peak_bytes()
    _run(variant, config, size_hw, torch.device("cpu"), dtype)
    return peak_bytes() - before


@torch.inference_mode()
def _run(
    variant: str, config: WindowConfig, size_hw: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> None:
    """Make a network, fill its window, and take two steps with the full window."""
    model = make_blueprint(VARIANTS[variant], dtype)
    # Any weights will do that keep all values finite: no attention kernel agrees with another one about NaN.
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            value = torch.empty_like(parameter, device=device).normal_(std=0.02)
            setattr(module, name, nn.Parameter(value, requires_grad=False))
    model.prepare(*size_hw)
    network = make_window_network(model, config, Rig())
    window = SlidingWindow(network.sets, config.cameras)
    images = torch.zeros((config.cameras, 3, *size_hw), device=device)
    view = View("camera", size_hw, (0, 0, *size_hw), np.full((3, 3), np.nan), False)
    if choose_execution(config.execution, device) != "eager":
        network.warm_up(images)
    for step in range(network.sets + 1):
        slots = window.push([WindowView("camera", step, "", True, view)] * config.cameras)
        network.write(slots, images)
        if step >= network.sets - 1:
            network.predict(window.slots(), config.decoded(len(window.slots()), config.cameras))
