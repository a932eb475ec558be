"""How long steps take while cameras drop out and come back: shapes that come up anew are not compiled, but run as they
are the first time and are captured as graphs the second time, on the way.

Run with ``python -m da3_ros.cli.bench_dropouts``.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from da3_ros.config import RANDOM_CHECKPOINT, from_flat
from da3_ros.datatypes import Frame, FrameSet, OutputRequest
from da3_ros.pipeline import Pipeline

_IMAGE_HWC = (720, 1280, 3)
_FRAME_NS = 33_333_333
_COMPLETE = 60  # steps with all cameras, timed before and after
# Sets until a camera that is there is gone, and until one that is gone is back, on average.
_STAYS, _GONE = 20, 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Print times of steps by how often their shape had come up before."""
    parser = argparse.ArgumentParser(
        prog="python -m da3_ros.cli.bench_dropouts", description=__doc__.split(":")[0].replace("\n", " ")
    )
    parser.add_argument("--variant", default="da3-base")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--sets", type=int, default=3, help="sets in the window")
    parser.add_argument("--process-res", type=int, default=504)
    parser.add_argument("--steps", type=int, default=600, help="steps in which cameras drop out")
    parser.add_argument("--device", default="auto", help="model.device")
    parser.add_argument("--execution", default="auto", help="model.execution")
    given = parser.parse_args(arguments)
    names = tuple(f"camera{index}" for index in range(given.cameras))
    values = {
        "cameras": names,
        "model.variant": given.variant,
        "model.checkpoint": RANDOM_CHECKPOINT,
        "model.device": given.device,
        "model.execution": given.execution,
        "model.process_res": given.process_res,
        "window.sets": given.sets,
    }
    pipeline = Pipeline(from_flat(values), live=True)
    steps = Steps(pipeline, names)
    for cameras in [names] * (given.sets + 8):
        steps.time_ms(cameras)
    print(f"{pipeline.description['device']}, torch {torch.__version__}, {given.variant}, {given.cameras} cameras, "
          f"{given.sets} sets, {pipeline.canvas_hw[1]}x{pipeline.canvas_hw[0]}, all outputs; milliseconds")  # fmt: skip
    rows = {"all cameras, before": [steps.time_ms(names) for _ in range(_COMPLETE)]}
    known: Counter[tuple[int, int]] = Counter()
    found = defaultdict(list)
    for cameras in present(names, given.steps, np.random.default_rng(0)):
        milliseconds = steps.time_ms(cameras)
        known[steps.shape] += 1
        found[min(known[steps.shape], 3)].append(milliseconds)
    for times, kind in enumerate(("shapes of windows that are new", "that come up again", "that are known"), 1):
        rows[kind] = found[times]
    rows["all cameras, after"] = [steps.time_ms(names) for _ in range(_COMPLETE)]
    print(f"{len(known)} shapes in {given.steps} steps")
    for line in table(rows):
        print(line)
    pipeline.close()


class Steps:
    """One step after the other, of random images. ``shape``: views of the last one, and how many of them were new."""

    def __init__(self, pipeline: Pipeline, names: tuple[str, ...]):
        self._pipeline = pipeline
        self._request = OutputRequest.everything(names)
        self._image = np.random.default_rng(0).integers(0, 256, _IMAGE_HWC, dtype=np.uint8)
        self._stamp_ns = 0
        self.shape = (0, 0)

    def time_ms(self, cameras: Sequence[str]) -> float:
        """Milliseconds from the images of ``cameras`` to all results on the host."""
        self._stamp_ns += _FRAME_NS
        frames = FrameSet(self._stamp_ns, tuple(Frame(name, self._stamp_ns, self._image) for name in cameras))
        begin = time.perf_counter()
        estimate = self._pipeline.step(frames, self._request)
        milliseconds = (time.perf_counter() - begin) * 1e3
        assert estimate is not None
        self.shape = len(estimate.views), len(cameras)
        return milliseconds


def present(names: Sequence[str], steps: int, rng: np.random.Generator) -> Iterator[tuple[str, ...]]:
    """Cameras of each of so many sets, in which each drops out and comes back at random; there is always one."""
    there = dict.fromkeys(names, True)
    for _ in range(steps):
        for name in names:
            if rng.random() < 1 / (_STAYS if there[name] else _GONE):
                there[name] = not there[name]
        yield tuple(name for name in names if there[name]) or (names[0],)


def table(rows: dict[str, list[float]]) -> list[str]:
    """Lines with the number of steps, their median, 95th percentile and longest."""
    lines = [f"{'':32}{'steps':>7}{'median':>9}{'p95':>9}{'longest':>9}"]
    for name, times in rows.items():
        figures = (*np.percentile(times, (50, 95)), max(times)) if times else ()
        lines.append(f"{name:32}{len(times):7}" + "".join(f"{value:9.1f}" for value in figures))
    return lines


if __name__ == "__main__":
    main()
