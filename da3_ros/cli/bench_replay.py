"""``python -m da3_ros.cli.bench_replay``: how fast recordings are replayed, for docs/evaluation.md.

A drive through a furnished room is rendered and written as a recording of JPEG pictures with CameraInfo and /tf_static,
once for each number of cameras and rate, and kept in ``--folder``. ``da3-ros replay`` runs over each in a process of
its own. ``process_s`` is the whole process, with Python's start and loading the network; ``replay_s`` is from the
first message to the complete output, as it prints it, and ``first_s`` of it until the first estimate. Times real time:
``times_process`` of the process, ``times_replay`` of the replay, and ``times_running`` of what comes after the first
estimate, in ``sets_per_s``. ``cpu_ms_per_set``: of all threads of the process, its start included. With ``--evaluate``
the recordings have true depth and poses, and it is ``da3-ros evaluate`` that runs, with its page.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from da3_ros.cli.bench import parse_image_size
from da3_ros.cli.bench_table import print_report
from da3_ros.cli.demo_bag import write_sequence
from da3_ros.cli.demo_sequence import Sequence as Pictures
from da3_ros.cli.demo_sequence import SequenceStep, procedural_sequence
from da3_ros.errors import Da3Error, InputError


@dataclass(frozen=True)
class ReplayRow:
    """One replay, see above."""

    cameras: int
    rate_hz: float
    sets: int
    recorded_s: float
    process_s: float
    replay_s: float
    first_s: float
    times_process: float
    times_replay: float
    times_running: float
    sets_per_s: float
    cpu_ms_per_set: float


def main(args: Sequence[str] | None = None) -> int:
    """Print a row for each recording."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_replay", description=__doc__)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1], help="cameras of the rig (default: 1)")
    parser.add_argument("--rates", type=float, nargs="+", default=[10.0, 30.0], metavar="HZ", help="default: 10 30")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each recording (default: 30)")
    parser.add_argument("--image-size", default="640x480", metavar="WxH", help="of its pictures (default: 640x480)")
    parser.add_argument("--folder", type=Path, help="where recordings are kept and found again (default: nowhere)")
    parser.add_argument("--render-on", default="cpu", metavar="DEVICE", help="default: cpu")
    parser.add_argument("--evaluate", action="store_true", help="recordings with truth, and da3-ros evaluate over them")
    parser.add_argument("--only-render", action="store_true", help="write the recordings, and replay none")
    parser.add_argument("--repeat", type=int, default=1, help="replays of each (default: 1)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="P=V", help="as of da3-ros replay")
    parser.add_argument("--json", metavar="FILE", help="write rows there ('-': standard output, no table)")
    options = parser.parse_args(args)
    try:
        height, width = parse_image_size(options.image_size)
        with _folder(options.folder) as folder:
            bags = []
            for cameras, rate_hz in product(options.cameras, options.rates):
                truth = "_truth" if options.evaluate else ""
                bag = folder / f"{cameras}x{options.image_size}_{rate_hz:g}hz_{options.seconds:g}s{truth}.mcap"
                steps = max(2, round(options.seconds * rate_hz))
                if not bag.exists():
                    made = procedural_sequence(
                        cameras, steps, seed=0, motion="drive", width=width, height=height, rate_hz=rate_hz,
                        device=options.render_on,
                    )  # fmt: skip
                    write_sequence(made if options.evaluate else _without_truth(made), bag, "compressed")
                bags.append((bag, cameras, rate_hz))
            if options.only_render:
                return 0
            rows, devices = [], set()
            for (bag, cameras, rate_hz), _ in product(bags, range(options.repeat)):
                row, device = measure(bag, cameras, rate_hz, options.set, options.evaluate)
                rows.append(row)
                devices.add(device)
    except Da3Error as error:
        print(f"bench_replay: {error}", file=sys.stderr)
        return 2
    machine = {"device": ", ".join(sorted(devices)), "cores": str(os.cpu_count()), "set": " ".join(options.set)}
    print_report(machine, rows, options.json)
    return 0


def measure(
    bag: Path, cameras: int, rate_hz: float, overrides: Sequence[str], evaluate: bool = False
) -> tuple[ReplayRow, str]:
    """Replay ``bag``, or ``evaluate`` it, in a process of its own: its row, and the device it ran on.

    Raises InputError where it fails.
    """
    with tempfile.TemporaryDirectory(prefix="da3_ros_bench_", dir=bag.parent) as folder:
        output, figures = Path(folder) / "out.mcap", Path(folder) / "figures.json"
        what = "evaluate" if evaluate else "replay"
        command = [sys.executable, "-m", "da3_ros.cli.main", what, str(bag), "--output"]
        command += [str(figures)] if evaluate else [str(output), "--json", str(figures)]
        command += ["--set", *overrides] if overrides else []
        before, started = _children_cpu_s(), time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        process_s, cpu_s = time.perf_counter() - started, _children_cpu_s() - before
        if done.returncode:
            raise InputError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
        found = json.loads(figures.read_text())
    run = found["run"] if evaluate else found | found["description"]
    took_s, first_s = run["elapsed_s" if evaluate else "replay_s"], run["first_s"]
    sets, recorded_s, running_s = run["sets"], run["sets"] / rate_hz, took_s - first_s
    row = ReplayRow(
        cameras, rate_hz, sets, recorded_s, process_s, took_s, first_s, recorded_s / process_s,
        recorded_s / took_s, (sets - 1) / rate_hz / running_s, (sets - 1) / running_s, 1e3 * cpu_s / sets,
    )  # fmt: skip
    return row, run["device"]


def _without_truth(made: Pictures) -> Pictures:
    """The same without depth and poses, which a robot's own recording does not have."""

    def read() -> Iterator[SequenceStep]:
        for step in made.read():
            images = tuple(replace(image, depth=None) for image in step.images)
            yield replace(step, images=images, T_world_tracked=None)

    return replace(made, read=read)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="da3_ros_bench_") as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
