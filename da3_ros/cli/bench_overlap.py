"""Whether copies run while the network does: a profile of submitted steps, one behind the other, on a GPU.

Run with ``python -m da3_ros.cli.bench_overlap``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from da3_ros.config import RANDOM_CHECKPOINT, from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.errors import UnavailableError
from da3_ros.estimates import PendingEstimate
from da3_ros.pipeline import Pipeline

_UNDER_WAY = 2  # steps, as in da3_ros.ros.engine
_WARM_UP = 8  # steps after the window is full
_TIMED = 60
_IMAGE_HWC = (720, 960, 3)
_FRAME_NS = 33_333_333
_LAUNCH_GAP_US = 10.0  # between kernels that follow each other without waiting for anything

Interval = tuple[float, float]  # begin and end


def main() -> None:
    """Print times of single and of pipelined steps, then what the profile says; save the trace."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="da3-base")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--sets", type=int, default=2, help="sets in the window")
    parser.add_argument("--steps", type=int, default=20, help="profiled steps")
    parser.add_argument("--execution", default="auto", help="model.execution")
    parser.add_argument("--trace", type=Path, default=Path("trace.json.gz"), help="where to save the Chrome trace")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise UnavailableError("there is no CUDA device: the CPU has no copies that could overlap with anything")
    loop = Loop(arguments.variant, arguments.cameras, arguments.sets, arguments.execution)
    loop.run(arguments.sets + _WARM_UP)
    print(f"{loop.pipeline.description['device']}, torch {torch.__version__}, {arguments.variant}, "
          f"{arguments.cameras} cameras, {arguments.sets} sets, 960x720, all outputs")  # fmt: skip
    single, pipelined = loop.single_ms(_TIMED), loop.run(_TIMED)
    print(f"step(): {np.median(single):.2f} ms, submit() pipelined: {pipelined / _TIMED * 1e3:.2f} ms a step")
    print("stages of a single step: " + ", ".join(f"{name} {ms:.2f}" for name, ms in loop.stages.items()))
    torch.cuda.set_sync_debug_mode("error")
    try:
        loop.run(5)
        print("no host synchronization in submit()")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with torch.profiler.profile() as profile:
        loop.run(arguments.steps)
    profile.export_chrome_trace(str(arguments.trace))
    with gzip.open(arguments.trace) as file:
        events = json.load(file)["traceEvents"]
    for line in summary(events, arguments.steps):
        print(line)


class Loop:
    """Steps of random images, as fast as they go."""

    def __init__(self, variant: str, cameras: int, sets: int, execution: str):
        self._names = tuple(f"camera{index}" for index in range(cameras))
        self._request = OutputRequest.everything(self._names)
        values = {
            "cameras": self._names,
            "model.variant": variant,
            "model.checkpoint": RANDOM_CHECKPOINT,
            "model.device": "cuda",
            "model.execution": execution,
            "window.sets": sets,
        }
        self.pipeline = Pipeline(from_flat(values))
        self._image = np.random.default_rng(0).integers(0, 256, _IMAGE_HWC, dtype=np.uint8)
        self._stamp_ns = 0
        self.stages: dict[str, float] = {}

    def _next(self) -> FrameSet:
        self._stamp_ns += _FRAME_NS
        return FrameSet(self._stamp_ns, tuple(Frame(name, self._stamp_ns, self._image) for name in self._names))

    def run(self, steps: int) -> float:
        """Submit ``steps``, of which two are under way at any time; seconds until the last result."""
        pending: deque[PendingEstimate] = deque()
        begin = time.perf_counter()
        for _ in range(steps):
            submitted = self.pipeline.submit(self._next(), self._request)
            assert submitted is not None
            pending.append(submitted)
            if len(pending) == _UNDER_WAY:
                pending.popleft().result()
        for rest in pending:
            rest.result()
        return time.perf_counter() - begin

    def single_ms(self, steps: int) -> list[float]:
        """Milliseconds of each of ``steps``, none of them submitted before the result of the one before it."""
        times, stages = [], []
        for _ in range(steps):
            begin = time.perf_counter()
            estimate = self.pipeline.step(self._next(), self._request)
            times.append((time.perf_counter() - begin) * 1e3)
            assert estimate is not None
            stages.append(estimate.timings_ms)
        self.stages = {name: float(np.median([stage[name] for stage in stages])) for name in stages[0]}
        return times


def summary(events: Iterable[dict], steps: int) -> list[str]:
    """What a Chrome trace of ``steps`` steps says of kernels and copies, one line for each kind."""
    intervals: dict[str, list[Interval]] = {"kernels": []}
    for event in events:
        kind = event.get("cat")
        if kind == "kernel":
            intervals["kernels"].append((event["ts"], event["ts"] + event["dur"]))
        elif kind == "gpu_memcpy":
            intervals.setdefault(event["name"], []).append((event["ts"], event["ts"] + event["dur"]))
    busy = union(intervals.pop("kernels"), _LAUNCH_GAP_US)
    span = busy[-1][1] - busy[0][0]
    computing = sum(end - begin for begin, end in busy)
    lines = [f"kernels run, one behind the other, in {computing / span:.1%} of {span / steps / 1e3:.2f} ms a step"]
    for name, copies in sorted(intervals.items()):
        total = sum(end - begin for begin, end in copies)
        hidden = overlap(union(copies), busy)
        lines.append(f"{name}: {total / steps / 1e3:.3f} ms a step, {hidden / total:.1%} of it while kernels run")
    return lines


def union(intervals: Iterable[Interval], gap: float = 0.0) -> list[Interval]:
    """The same times without overlaps, in order; what is at most ``gap`` apart is joined."""
    joined: list[Interval] = []
    for begin, end in sorted(intervals):
        if joined and begin <= joined[-1][1] + gap:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return joined


def overlap(first: Sequence[Interval], second: Sequence[Interval]) -> float:
    """How long both run; each in order and without overlaps of its own."""
    total, index = 0.0, 0
    for begin, end in first:
        while index < len(second) and second[index][1] <= begin:
            index += 1
        at = index
        while at < len(second) and second[at][0] < end:
            total += min(end, second[at][1]) - max(begin, second[at][0])
            at += 1
    return total


if __name__ == "__main__":
    main()
