"""``python -m da3_ros.cli.bench_tracking``: simulated drives through the tracker, as a table for docs/tracking.md.

With ``--network`` the drives go through a rendered hall, and the network makes the predictions; with ``--real``, too,
folders of recorded pictures with true poses and depth, as of ``da3-ros demo --images``, are the drives.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from da3_ros.cli import network_drives, real_drives
from da3_ros.cli.bench_step import Case, measure_node
from da3_ros.cli.bench_timing import Repeats
from da3_ros.cli.node_parameters import add_parameter_option, parse_parameter
from da3_ros.config.choices import BUNDLED_VARIANT
from da3_ros.datatypes import WindowView
from da3_ros.errors import Da3Error
from da3_ros.evaluation import simulated_windows as sim
from da3_ros.evaluation.drive_score import DriveResult
from da3_ros.evaluation.operations import Operations
from da3_ros.evaluation.simulated_drives import (
    Drive,
    Scenario,
    anchored,
    figure_of_eight,
    figures_of_eight,
    scenarios,
)
from da3_ros.streaming.device import choose_device, describe_device
from da3_ros.tracking import ScaleFilter, Tracker

_Columns = Sequence[tuple[str, str, str]]  # title, field of the result, format
_COLUMNS = (
    ("drive", "scenario", "{}"),
    ("steps", "steps", "{}"),
    ("way (m)", "distance_m", "{:.1f}"),
    ("ATE (cm)", "ate_m", "{:.2f}"),
    ("drift (% of way)", "drift_percent", "{:.3f}"),
    ("RPE (% a metre)", "rpe_percent", "{:.2f}"),
    ("RPE (cm in 1 s)", "rpe_second_m", "{:.2f}"),
    ("RPE (deg in 1 s)", "rpe_second_deg", "{:.3f}"),
    ("rotation (deg)", "rotation_deg", "{:.2f}"),
    ("scale, median (%)", "scale_median_percent", "{:.2f}"),
    ("scale, worst (%)", "scale_largest_percent", "{:.2f}"),
    ("largest jump (cm)", "jump_m", "{:.2f}"),
    ("cloud (cm)", "cloud_m", "{:.2f}"),
    ("NEES / 6", "nees", "{:.1f}"),
)
_NETWORK_COLUMNS = (
    ("drive", "scenario", "{}"),
    ("scale.source", "source", "{}"),
    ("metres from (steps)", "sources", "{}"),
    ("steps", "steps", "{}"),
    ("way (m)", "distance_m", "{:.1f}"),
    ("ATE (cm)", "ate_m", "{:.1f}"),
    ("ATE, scaled too (cm)", "ate_scaled_m", "{:.1f}"),
    ("on the map (cm)", "map_ate_m", "{:.1f}"),
    ("keyframes (cm)", "keyframe_ate_m", "{:.1f}"),
    ("drift (% of way)", "drift_percent", "{:.1f}"),
    ("RPE (% a metre)", "rpe_percent", "{:.1f}"),
    ("RPE (cm in 1 s)", "rpe_second_m", "{:.1f}"),
    ("RPE (deg in 1 s)", "rpe_second_deg", "{:.2f}"),
    ("rotation (deg)", "rotation_deg", "{:.1f}"),
    ("ways too long (%)", "way_percent", "{:+.0f}"),
    ("scale, median (%)", "scale_median_percent", "{:.1f}"),
    ("scale, worst (%)", "scale_largest_percent", "{:.1f}"),
    ("largest step (cm)", "largest_step_m", "{:.1f}"),
    ("true step there (cm)", "true_step_m", "{:.1f}"),
    ("largest jump (cm)", "jump_m", "{:.1f}"),
    ("cloud (cm)", "cloud_m", "{:.1f}"),
    ("NEES / 6", "nees", "{:.1f}"),
    ("loops", "loops", "{}"),
    ("states (steps)", "statuses", "{}"),
)
_CENTIMETRES = (
    "ate_m", "ate_scaled_m", "map_ate_m", "keyframe_ate_m", "rpe_second_m", "largest_step_m", "true_step_m", "jump_m",
    "cloud_m",
)  # fmt: skip


def main(args: Sequence[str] | None = None) -> int:
    """Print the table, and the cost of a step."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_tracking", description=__doc__)
    parser.add_argument("--steps", type=int, default=120, help="of each drive (default: 120)")
    parser.add_argument("--long", type=int, nargs="?", const=2000, default=0, help="a figure of eight of so many steps")
    parser.add_argument(
        "--anchors", action="store_true", help="instead, drives with old sets in the window and without"
    )
    parser.add_argument("--noisy", action="store_true", help="instead, means of the drives with noisy poses")
    parser.add_argument("--seeds", type=int, default=3, help="of each drive with --anchors or --noisy (default: 3)")
    parser.add_argument(
        "--network", nargs="?", const=BUNDLED_VARIANT, metavar="VARIANT",
        help="instead of simulated windows, pictures of a hall through this network (default: da3-nano)",
    )  # fmt: skip
    parser.add_argument(
        "--real", type=Path, nargs="+", metavar="FOLDER",
        help="with --network, pictures with true poses and depth instead of the hall",
    )  # fmt: skip
    parser.add_argument(
        "--sources", nargs="+", default=network_drives.SOURCES, choices=network_drives.SOURCES, metavar="SOURCE",
        help="with --network, values of scale.source to drive with (default: all of auto, rig, odometry, range)",
    )  # fmt: skip
    add_parameter_option(parser, "model.process_res:=280, with --network")
    parser.add_argument("--share", action="store_true", help="instead, tracking's share of a step of the demo")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--cost-only", action="store_true", help="only what a step costs")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(args)
    device = choose_device(options.device)
    if options.share:
        _print_share(device)
        return 0
    if device.type == "cpu":
        torch.set_num_threads(1)
    if options.anchors:
        pairs = [zip(pair, ("newest 2 sets and anchors", "newest sets"), strict=True) for pair in anchored()]
        _print_means("| drive | window |", [one for pair in pairs for one in pair], options.seeds)
        return 0
    if options.noisy:
        chosen = [one for one in scenarios(options.steps) if one.name.endswith("noisy poses too")]
        _print_means("| drive |", [(one, "") for one in chosen], options.seeds)
        return 0
    if options.network:
        try:
            results: Sequence[DriveResult] = _network_drives(options, device)
        except Da3Error as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        _write(options.json, {"drives": [asdict(result) for result in results], "device": describe_device(device)})
        return 0
    results = []
    if not options.cost_only:
        chosen = figures_of_eight(options.long) if options.long else scenarios(options.steps)
        _print_head(_COLUMNS)
        for scenario in chosen:
            results.append(Drive(scenario, device=torch.device("cpu")).result())
            print(_row(_COLUMNS, results[-1]), flush=True)
        print()
    costs = [_cost(device, views, cameras) for views, cameras in ((4, 1), (8, 1), (8, 4), (16, 4), (32, 4))]
    print(f"Cost of a step at 504x378, median of 50, {describe_device(device)}:\n")
    print("| views | new | operations | host (ms) | until the device is done (ms) |\n|---|---|---|---|---|")
    for cost in costs:
        print("| {views} | {new} | {operations} | {host_ms:.2f} | {total_ms:.2f} |".format(**cost))
    drives = [asdict(result) for result in results]
    _write(options.json, {"drives": drives, "cost": costs, "device": describe_device(device)})
    return 0


def _network_drives(options: argparse.Namespace, device: torch.device) -> list[DriveResult]:
    """Prints each drive as it is done."""
    given = dict(map(parse_parameter, options.parameters))
    values = {"model.variant": options.network, "model.device": str(device)} | given
    print(f"{options.network} on {describe_device(device)}\n", flush=True)
    _print_head(_NETWORK_COLUMNS)
    results: list[DriveResult] = []
    for result in _recorded(options, values) if options.real else _rendered(options, values, device):
        results.append(result)
        print(_row(_NETWORK_COLUMNS, result), flush=True)
    return results


def _recorded(options: argparse.Namespace, values: Mapping[str, Any]) -> Iterator[DriveResult]:
    for folder in options.real:
        yield from real_drives.real_drives(folder, options.sources, values)


def _rendered(options: argparse.Namespace, values: Mapping[str, Any], device: torch.device) -> Iterator[DriveResult]:
    drives = network_drives.network_scenarios(options.steps) if not options.long else [figure_of_eight(options.long)]
    hall = network_drives.Hall(device)
    for scenario in drives:
        yield from network_drives.drive(hall, scenario, options.sources, values)


def _write(path: str | None, figures: Mapping[str, Any]) -> None:
    if path:
        Path(path).write_text(json.dumps(figures, indent=1) + "\n")


def _print_means(columns: str, drives: Sequence[tuple[Scenario, str]], seeds: int) -> None:
    """Root mean squares over seeds, of drives and what is said of each."""
    names = ("ate_m", "drift_percent", "rotation_deg", "scale_median_percent")
    print(columns + " ATE (cm) | drift (% of way) | rotation (deg) | scale, median (%) | NEES / 6 |")
    print("|---" * (columns.count("|") + 4) + "|")
    for scenario, what in drives:
        found = [Drive(scenario, seed, torch.device("cpu")).result() for seed in range(seeds)]
        squares = (sum(getattr(one, name) ** 2 for one in found) / seeds for name in names)
        ate, *others = (math.sqrt(square) for square in squares)
        nees = sum(one.nees for one in found) / seeds / 6
        figures = " | ".join(f"{value:.2f}" for value in (100 * ate, *others))
        print("| " + " | ".join([scenario.name, *filter(None, [what]), figures, f"{nees:.2f}"]) + " |", flush=True)


def _print_share(device: torch.device) -> None:
    """Of the demo's network, rig and window, at its size."""
    case = Case("da3-nano", 9, 3, (480, 640), network_drives.PROCESS_RES, device, "float32", {"model.checkpoint": ""})
    times = measure_node(case, Repeats(10.0))
    tracking = times.stages["tracking"]
    print(
        f"{case.variant}, {case.new} new views of {case.views}, longest side "
        f"{network_drives.PROCESS_RES}, {describe_device(device)}: "
        f"tracking and the search for what moves {tracking:.1f} ms of {times.with_tracking:.1f} ms, "
        f"{100 * tracking / times.with_tracking:.1f} %"
    )


def _print_head(columns: _Columns) -> None:
    print("| " + " | ".join(title for title, _, _ in columns) + " |\n|" + "---|" * len(columns), flush=True)


def _row(columns: _Columns, result: DriveResult) -> str:
    cells = []
    for _, name, form in columns:
        value = getattr(result, name)
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {count}" for key, count in value.items()) or "none"
        if name in _CENTIMETRES:
            value *= 100
        if name == "nees":
            value /= 6
        cells.append("-" if isinstance(value, float) and math.isnan(value) else form.format(value))
    return "| " + " | ".join(cells) + " |"


def _cost(device: torch.device, views: int, cameras: int, steps: int = 50) -> dict[str, float]:
    """Milliseconds of Tracker.step alone, without the network and with nothing to download, and its operations."""
    rig = {name: sim.RING[name] for name in list(sim.RING)[:cameras]}
    execution = "graphs" if device.type == "cuda" else "eager"
    tracker = Tracker(ScaleFilter(5.0, 5), device, views, execution)
    host, total = [], []
    operations = Operations()
    for step, window in enumerate(sim.windows(sim.circle(steps + 20), rig, views // cameras)):
        given = track_inputs(window, device)
        _wait(device)
        # While the window is full and before its graph is captured there is a step whose operations can be counted.
        with operations if step == views // cameras - 1 else contextlib.nullcontext():
            begin = time.perf_counter()
            tracker.step(*given, rig)
            host.append((time.perf_counter() - begin) * 1e3)
            _wait(device)
            total.append((time.perf_counter() - begin) * 1e3)
    middle = lambda values: sorted(values[20:])[len(values[20:]) // 2]  # noqa: E731
    return {
        "views": views, "new": cameras, "operations": operations.total,
        "host_ms": middle(host), "total_ms": middle(total),
    }  # fmt: skip


def track_inputs(
    window: sim.Window, device: torch.device, size: tuple[int, int] = (378, 504)
) -> tuple[Sequence[WindowView], torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """What Tracker.step takes of a simulated window, at the network's ``size`` (H, W), but for the rig."""
    depth = torch.nn.functional.interpolate(window.depth[:, None], size, mode="bilinear")[:, 0].to(device)
    views = [replace(view, view=replace(view.view, content=(0, 0, *size))) for view in window.views]
    K = window.K.clone()
    K[:, :2] *= size[1] / sim.WIDTH
    colours = torch.randint(0, 255, (len(depth), 3, *size), dtype=torch.uint8, device=device)
    return views, window.T_cam_world.to(device), K.to(device), depth, torch.full_like(depth, 2.0), colours


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    sys.exit(main())
