"""Where a step's time on a GPU goes, kernel by kernel: groups of kernels, CUDA graphs, and the longest kernels.

Run with ``python -m da3_ros.cli.bench_kernels``. The steps are those of ``da3-ros bench``: from images on the host to
depth and confidence of the new views and poses and intrinsics of all views on the host.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from da3_ros.cli.bench_account import Kernel, account, launches, read_kernels
from da3_ros.cli.bench_floor import copy_gbyte_per_s, matmul_tflops, step_arithmetic
from da3_ros.cli.bench_step import Case, Source, pipeline_config
from da3_ros.cli.bench_table import table
from da3_ros.cli.bench_timing import Repeats
from da3_ros.cli.node_parameters import add_parameter_option, parse_parameter
from da3_ros.config import ANY_VIEW_VARIANTS
from da3_ros.datatypes import OutputRequest
from da3_ros.errors import UnavailableError
from da3_ros.pipeline import Pipeline
from da3_ros.streaming.device import choose_dtype, describe_device

_IMAGE_HW = (840, 1120)  # as in da3-ros bench
_PROCESS_RES = 504
_PROFILED = 10  # steps
_TIMED = 50
_NAME = 110  # characters of a kernel's name


def main(given: Sequence[str] | None = None) -> None:
    """Print what attention kernels took at the start, what a step's stages take, and the account of its kernels."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="da3-small", choices=ANY_VIEW_VARIANTS)
    parser.add_argument("--views", type=int, default=8, help="views in the window")
    parser.add_argument("--new", type=int, default=1, help="new views in each step")
    parser.add_argument("--kernels", type=int, default=25, help="kernels in the last table")
    parser.add_argument("--matmul-tflops", type=float, metavar="T", help="rate for the ideal times (default: measured)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--trace", type=Path, metavar="FILE.json.gz", help="save the Chrome trace, too")
    add_parameter_option(parser, "model.execution:=eager")
    arguments = parser.parse_args(given)
    if not torch.cuda.is_available():
        raise UnavailableError("there is no CUDA device: the CPU runs no kernels")
    # What each attention kernel took when the fastest was chosen.
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    logging.getLogger("da3_ros.model.attention").setLevel(logging.INFO)
    device = torch.device("cuda")
    parameters = dict(map(parse_parameter, arguments.parameters))
    case = Case(arguments.variant, arguments.views, arguments.new, _IMAGE_HW, _PROCESS_RES, device, "auto", parameters)
    request = OutputRequest(depth=frozenset(case.cameras), confidence=frozenset(case.cameras))
    source = Source(case.cameras, case.image_hw)
    stages: list[Mapping[str, float]] = []

    def step() -> None:
        estimate = pipeline.step(source.next(), request)
        assert estimate is not None
        stages.append(estimate.timings_ms)

    started = time.perf_counter()
    pipeline = Pipeline(pipeline_config(case))
    try:
        sets = case.views // case.new
        for _ in range(sets):
            step()
        start_s = time.perf_counter() - started
        for _ in range(_TIMED):
            step()
        timed = stages[-_TIMED:]
        kernels = profile(step, arguments.trace)
        height, width = pipeline.canvas_hw
    finally:
        pipeline.close()
    repeats = Repeats(1.0)
    tflops = arguments.matmul_tflops or matmul_tflops(device, choose_dtype("auto", device), repeats)
    gbyte_per_s = copy_gbyte_per_s(device, repeats)
    groups = account(
        kernels, _PROFILED, step_arithmetic(case.variant, case.views, case.new, height, width), tflops, gbyte_per_s
    )
    graphs = launches(kernels, _PROFILED)
    medians = {name: float(np.median([stage[name] for stage in timed])) for name in timed[0]}
    machine = (
        f"{describe_device(device)}, torch {torch.__version__}, {case.variant}, {width}x{height}, window of "
        f"{case.views} views, {case.new} new; start {start_s:.1f} s; ideal at {tflops:.0f} TFLOP/s and "
        f"{gbyte_per_s:.0f} GB/s"
    )
    print(machine)
    print("stages: " + ", ".join(f"{name} {milliseconds:.3f} ms" for name, milliseconds in medians.items()))
    print(f"\n{table(groups)}\n\n{table(graphs)}\n")
    ranked = longest(kernels)
    for name, (count, milliseconds) in ranked[: arguments.kernels]:
        print(f"{milliseconds:8.4f} ms {count:6.1f} x {name[:_NAME]}")
    if arguments.json:
        figures = {"machine": machine, "stages": medians, "groups": [asdict(row) for row in groups],
                   "graphs": [asdict(row) for row in graphs], "kernels": dict(ranked)}  # fmt: skip
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def profile(step: Callable[[], None], trace: Path | None) -> list[Kernel]:
    """What the device runs in ten steps. ``trace``: where to save the Chrome trace."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        for _ in range(_PROFILED):
            step()
    with tempfile.TemporaryDirectory() as folder:
        path = trace or Path(folder) / "trace.json.gz"
        found.export_chrome_trace(str(path))
        with (gzip.open if path.suffix == ".gz" else open)(path) as file:
            return read_kernels(json.load(file)["traceEvents"])


def longest(kernels: Sequence[Kernel]) -> list[tuple[str, tuple[float, float]]]:
    """Names with how often a step runs the kernel and for how long altogether (ms), longest first."""
    found: dict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for kernel in kernels:
        count, milliseconds = found[kernel.name]
        found[kernel.name] = count + 1 / _PROFILED, milliseconds + kernel.duration / 1e3 / _PROFILED
    return sorted(found.items(), key=lambda item: -item[1][1])


if __name__ == "__main__":
    main()
