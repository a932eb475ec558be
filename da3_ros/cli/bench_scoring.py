"""What scoring one picture's estimate costs an evaluation, for each of the things that are done with it.

Run with ``python -m da3_ros.cli.bench_scoring``, for docs/evaluation.md: made-up depth (smooth, with noise and holes)
against made-up truth, along a short way. ``cpu_ms`` is the median of the processor time of one frame; where few
frames are kept (``cloud``, for the page) of those that are.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from da3_ros.cli.bench import parse_image_size
from da3_ros.cli.bench_table import print_report
from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import Da3Error
from da3_ros.evaluation.cloud_sample import cloud_frame
from da3_ros.evaluation.report_examples import DepthExamples
from da3_ros.evaluation.score import ConsistencyScore, DepthScore, EstimatedFrame, SeenFrame
from da3_ros.evaluation.truth import scaled_intrinsics
from da3_ros.heap import keep_freed_memory

_WARM_UP = 3
_PERIOD_NS = 100_000_000


@dataclass(frozen=True)
class ScoringRow:
    """See above. ``part``: errors of depth against the truth (``depth``), agreement with the frame before
    (``consistency``), examples and points for the page (``examples``, ``cloud``)."""

    part: str
    cpu_ms: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each part; the exit code is 2 for what the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_scoring", description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="504x378", metavar="WxH", help="of estimated depth (default: 504x378)")
    parser.add_argument("--truth", default="640x480", metavar="WxH", help="of true depth (default: 640x480)")
    parser.add_argument("--repeat", type=int, default=40, help="frames that are scored (default: 40)")
    parser.add_argument("--json", metavar="FILE", help="write rows there ('-': standard output, no table)")
    given = parser.parse_args(arguments)
    try:
        sizes = parse_image_size(given.size, "--size"), parse_image_size(given.truth, "--truth")
    except Da3Error as error:
        print(f"bench_scoring: {error}", file=sys.stderr)
        return 2
    keep_freed_memory()  # as an evaluation does
    torch.set_num_threads(1)
    frames = made_up_frames(*sizes, _WARM_UP + given.repeat)
    machine = {"cores": str(os.cpu_count()), "size": given.size, "truth": given.truth, "numpy": np.__version__}
    print_report(machine, measure(frames), given.json)
    return 0


def made_up_frames(size_hw: tuple[int, int], true_hw: tuple[int, int], count: int) -> list[SeenFrame]:
    """``count`` estimates of ``size_hw`` with truth of ``true_hw``, 1 cm further on each."""
    random = np.random.default_rng(0)
    (height, width), (true_height, true_width) = size_hw, true_hw
    K = np.array([[0.8 * true_width, 0, true_width / 2], [0, 0.8 * true_width, true_height / 2], [0, 0, 1.0]])
    calibration = CameraCalibration(true_width, true_height, K)
    frames = []
    for index in range(count):
        T = np.eye(4)
        T[0, 3] = 0.01 * index
        depth = (_slope(height, width) * random.uniform(0.8, 1.25, size_hw)).astype(np.float32)
        true = (2.0 * _slope(true_height, true_width)).astype(np.float32)
        for values in (depth, true):
            values[random.random(values.shape) < 0.01] = np.nan
        confidence = random.uniform(1.0, 5.0, size_hw).astype(np.float32)
        K_depth = scaled_intrinsics(K, calibration, height, width)
        estimate = EstimatedFrame("front", index * _PERIOD_NS, depth, K_depth, confidence, T)
        frames.append(SeenFrame(estimate, calibration, true, T))
    return frames


def measure(frames: Sequence[SeenFrame]) -> list[ScoringRow]:
    """A row for each part of the scoring."""
    score, consistency, examples = DepthScore(float("inf")), ConsistencyScore(), DepthExamples()

    def score_depth(seen: SeenFrame) -> None:
        assert seen.true is not None
        score.add(seen.estimate, seen.true, seen.calibration)

    return [
        ScoringRow("depth", _median_ms(score_depth, frames)),
        ScoringRow("consistency", _median_ms(lambda seen: consistency.add(seen.estimate), frames)),
        ScoringRow("examples", _median_ms(examples.add, frames)),
        ScoringRow("cloud", _median_ms(cloud_frame, frames)),
    ]


def _median_ms(call: Callable[[SeenFrame], Any], frames: Sequence[SeenFrame]) -> float:
    """Processor time of this thread for a frame, the first few left out."""
    taken = []
    for seen in frames:
        started = time.thread_time()
        call(seen)
        taken.append(1e3 * (time.thread_time() - started))
    return statistics.median(taken[_WARM_UP:])


def _slope(height: int, width: int) -> np.ndarray:
    """Depth (H, W) from 1 to 4."""
    return 1.0 + 2.0 * np.linspace(0, 1, height)[:, None] + np.linspace(0, 1, width)


if __name__ == "__main__":
    sys.exit(main())
