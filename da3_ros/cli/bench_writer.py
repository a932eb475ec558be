"""What writing the messages of one set costs a replay: the time of the thread that makes, serializes and writes them.

Run with ``python -m da3_ros.cli.bench_writer``, for docs/evaluation.md. ``cpu_ms`` is processor time of that thread
for a set (the kernel's for the file is in it), ``wall_ms`` the clock's; medians. ``largest_ms`` is the most processor
time of a set, ``mb`` what one adds to the file.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from da3_ros.cli.bench import parse_image_size
from da3_ros.cli.bench_estimates import FIRST_NS, EstimatesOfSets
from da3_ros.cli.bench_table import print_report
from da3_ros.crc32 import crc32
from da3_ros.egress.bag import BagWriter
from da3_ros.egress.message_types import message_builder
from da3_ros.errors import Da3Error
from da3_ros.heap import keep_freed_memory
from da3_ros.ingest.bag import Bag
from da3_ros.replay.estimates import ReplayedEstimate
from da3_ros.replay.recording import PART_SETS, Recording

_WARM_UP = 5
_MEMORIES = 8
_DESCRIPTION = {"variant": "da3-small", "weights_trained": True}


@dataclass(frozen=True)
class WriterRow:
    """See above."""

    cameras: int
    mb: float
    cpu_ms: float
    wall_ms: float
    largest_ms: float
    cpu_ms_per_mb: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each number of cameras; the exit code is 2 for what the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_writer", description=__doc__.splitlines()[0])
    parser.add_argument("--cameras", type=int, nargs="+", default=[1], help="cameras of the rig (default: 1)")
    parser.add_argument("--sets", type=int, default=4, help="sets in the window (default: 4)")
    parser.add_argument("--size", default="504x378", metavar="WxH", help="of depth (default: 504x378)")
    parser.add_argument("--repeat", type=int, default=200, help="sets that are written (default: 200)")
    parser.add_argument("--folder", type=Path, help="on the disk that is written to (default: the temporary folder's)")
    parser.add_argument("--json", metavar="FILE", help="write rows there ('-': standard output, no table)")
    given = parser.parse_args(arguments)
    try:
        size_hw = parse_image_size(given.size, "--size")
        keep_freed_memory()  # as a replay does
        with tempfile.TemporaryDirectory(prefix="da3_ros_bench_", dir=given.folder) as folder:
            rows = [measure(Path(folder), cameras, given.sets, size_hw, given.repeat) for cameras in given.cameras]
    except Da3Error as error:
        print(f"bench_writer: {error}", file=sys.stderr)
        return 2
    machine = {"cores": str(os.cpu_count()), "size": given.size, "checksums": crc32.__module__}
    print_report(machine, rows, given.json)
    return 0


def measure(folder: Path, cameras: int, sets: int, size_hw: tuple[int, int], repeat: int) -> WriterRow:
    """Write ``repeat`` estimates of ``cameras`` as a replay does, to a file in ``folder``."""
    estimates = EstimatesOfSets(tuple(f"camera{index}" for index in range(cameras)), sets, size_hw, _MEMORIES)
    with BagWriter(folder / f"in{cameras}") as writer:
        writer.write("/tf_static", FIRST_NS, message_builder().transforms([]))
    output = folder / f"out{cameras}.mcap"
    recording = Recording(output, Bag([folder / f"in{cameras}"]), estimates.config, "", frozenset(), {})
    cpu_ms, wall_ms = [], []
    for number in range(_WARM_UP + repeat):
        estimate = estimates.estimate(number)
        before = time.thread_time(), time.perf_counter()
        if number % PART_SETS == 0:
            recording.boundary(number)
        recording.write(ReplayedEstimate(estimate.stamp_ns, estimate), _DESCRIPTION)
        if number >= _WARM_UP:
            cpu_ms.append(1e3 * (time.thread_time() - before[0]))
            wall_ms.append(1e3 * (time.perf_counter() - before[1]))
    recording.finish()
    mb = output.stat().st_size / 1e6 / (_WARM_UP + repeat)
    output.unlink()
    cpu = statistics.median(cpu_ms)
    return WriterRow(cameras, mb, cpu, statistics.median(wall_ms), max(cpu_ms), cpu / mb)


if __name__ == "__main__":
    sys.exit(main())
