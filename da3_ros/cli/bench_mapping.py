"""``python -m da3_ros.cli.bench_mapping``: loops and map of simulated drives, as tables for docs/tracking.md.

Times are of the processor in the thread of the steps, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from da3_ros.evaluation import simulated_windows as sim
from da3_ros.evaluation.simulated_maps import Drive, StreetDrive
from da3_ros.geometry.se3 import T_from
from da3_ros.streaming.device import describe_device
from da3_ros.tracking.mapping import Mapper, MappingSettings
from da3_ros.tracking.pose_graph import Constraint, PoseGraph

_MIB = 1 << 20
_RATE_HZ = 10.0
# Radians for each metre by which odometry turns too much in the figure of eight: a quarter of a degree.
_YAW_DRIFT = 0.004


def main(args: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_mapping", description=__doc__)
    parser.add_argument("--steps", type=int, default=2000, help="of the figure of eight (default: 2000); 0: none")
    parser.add_argument("--hours", type=float, default=1.0, help="of the drive at 10 m/s; 0: none")
    parser.add_argument(
        "--every", type=int, default=3, help="one step of so many at 10 Hz is simulated in the drive (default: 3)"
    )
    parser.add_argument("--keyframes", type=int, default=1000, help="as loops.keyframes")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options = parser.parse_args(args)
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"device": describe_device(torch.device("cpu"))}
    if options.steps:
        cases = [(noise, loops) for noise in (0.0, 0.05) for loops in (False, True)]
        figures["eight"] = [measure_eight(options.steps, noise, loops) for noise, loops in cases]
        _table(figures["eight"])
    figures["solver"] = measure_solver(options.keyframes)
    _table([figures["solver"]])
    if options.hours:
        figures["drive"] = measure_drive(round(options.hours * 3600 * _RATE_HZ), options.keyframes, options.every)
        for name, value in figures["drive"].items():
            print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def measure_eight(steps: int, depth_noise: float, loops: bool) -> dict[str, Any]:
    """Errors of odom, keyframes and cloud of a figure of eight with drifting odometry, one turn every 125 steps."""
    drive = Drive(sim.figure_of_eight(steps, turns=max(1, steps // 125)), _YAW_DRIFT, depth_noise)
    mapper = Mapper(MappingSettings(window_views=8, loops=loops), drive.look)
    took, corrected = [], []
    for step in tqdm(range(steps), unit="step", disable=not sys.stderr.isatty()):
        maps = drive.maps(step)
        took.append(_step(mapper, maps))
        corrected.append(mapper.T_map_odom @ drive.odom[step])
    for _ in range(300):  # the map is rebuilt
        _step(mapper, None)
    mapper.close()
    stamps, poses = mapper.keyframe_poses()
    at = (stamps - stamps[0]) // 100_000_000
    true = np.stack(drive.true)[:, :3, 3]
    xyz = mapper.cloud().xyz @ drive.way[0][:3, :3].T + drive.way[0][:3, 3]
    report = mapper.report()
    return {
        "steps": steps,
        "depth noise (%)": 100 * depth_noise,
        "loops closed": report.loops if loops else "off",
        "windows": report.windows,
        "way (m)": float(np.linalg.norm(np.diff(true, axis=0), axis=1).sum()),
        "odom, RMS (m)": _rms(np.stack(drive.odom)[:, :3, 3] - true),
        "map pose of the step, RMS (m)": _rms(np.stack(corrected)[:, :3, 3] - true),
        "keyframes, RMS (m)": _rms(poses[:, :3, 3] - true[at]),
        "cloud to truth, mean (m)": float(sim.surface_distance(xyz).mean()),
        "step, p95 (ms)": float(np.quantile(took, 0.95)),
    }


def measure_solver(keyframes: int, laps: int = 4) -> dict[str, Any]:
    """One solution of a graph of so many keyframes on a circle, with a loop at every tenth after the first lap."""
    rng, per_lap = np.random.default_rng(0), keyframes // laps
    step = T_from(sim.yaw(2 * np.pi / per_lap), np.array([1.0, 0.0, 0.0]))
    graph, variance = PoseGraph(), np.array([0.002**2] * 3 + [0.01**2] * 3 + [0.002**2])
    graph.begin(0, np.eye(4))
    for number in range(1, keyframes):
        drift = T_from(sim.yaw(0.0005 + rng.normal() * 0.002), rng.normal(size=3) * 0.01)
        graph.extend(Constraint(number - 1, number, step @ drift, variance))
    again = range(per_lap, keyframes, 10)
    graph.add_loops(Constraint(number - per_lap, number, np.eye(4), 9 * variance) for number in again)
    begin = time.thread_time()
    graph.start()
    prepared, iterations, done = time.thread_time(), [], False
    while not done:
        before = time.thread_time()
        done = graph.advance()
        iterations.append((time.thread_time() - before) * 1e3)
    return {
        "keyframes": keyframes,
        "loops": len(again),
        "preparation (ms)": (prepared - begin) * 1e3,
        "iterations": len(iterations),
        "iteration, median (ms)": float(np.median(iterations)),
        "iteration, longest (ms)": max(iterations),
    }


def measure_drive(steps: int, keyframes: int, every: int) -> dict[str, Any]:
    """Memory and work of a long drive on a ring road of 4 km with one camera at 504x378.

    A step between keyframes leaves nothing behind; at 10 m/s every third one at 10 Hz becomes one.
    """
    drive, settings = StreetDrive(), replace(MappingSettings(window_views=8), keyframes=keyframes)
    mapper, took = Mapper(settings, drive.look), []
    errors: list[float] = []
    resident: list[float] = []
    simulated = range(0, steps, every)
    for number, step in enumerate(tqdm(simulated, unit="step", disable=not sys.stderr.isatty()), 1):
        maps = drive.maps(step)
        took.append(_step(mapper, maps))
        off = mapper.T_map_odom @ maps.T_odom_body - drive.true_pose(step)
        errors.append(float(np.linalg.norm(off[:3, 3])))
        if number * 4 // len(simulated) > len(resident):
            resident.append(_resident_mib())
    mapper.close()
    report = mapper.report()
    late = took[len(took) // 2 :]
    return {
        "hours": steps / _RATE_HZ / 3600,
        "way (km)": steps / 1000.0,
        "steps simulated": len(simulated),
        "keyframes made": mapper.keyframes_made,
        "keyframes": report.keyframes,
        "keyframe memory (MiB)": report.keyframe_bytes / _MIB,
        "memory for each keyframe (KiB)": report.keyframe_bytes / report.keyframes / 1024,
        "voxels": report.voxels,
        "map memory (MiB)": mapper.map_bytes / _MIB,
        "process, resident after each quarter (MiB)": ", ".join(f"{size:.0f}" for size in resident),
        "process, peak (MiB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "windows across two places": report.windows,
        "loops in the graph": report.loops,
        "error on the map at the end (m)": errors[-1],
        "step, median (ms)": float(np.median(late)),
        "step, p95 (ms)": float(np.quantile(late, 0.95)),
        "step, longest (ms)": float(np.max(late)),
        **{f"{part}, longest wall time (ms)": value for part, value in report.durations_ms.items()},
        "refused": dict(report.refused),
    }


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / _MIB


def _step(mapper: Mapper, maps: Any) -> float:
    begin = time.thread_time()
    mapper.step(maps)
    return (time.thread_time() - begin) * 1e3


def _rms(off: np.ndarray) -> float:
    return float(np.sqrt(np.square(off).sum(-1).mean()))


def _table(rows: Sequence[dict[str, Any]]) -> None:
    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values()]
        print("| " + " | ".join(cells) + " |")
    print()


if __name__ == "__main__":
    sys.exit(main())
