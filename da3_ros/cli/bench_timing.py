"""Medians of repeated runs, on the CPU's clock or with CUDA events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

_MOST = 200


@dataclass(frozen=True)
class Repeats:
    """How long to repeat one measurement (seconds); at least ``least`` and at most 200 runs after the warm-up."""

    seconds: float
    warm_up: int = 2  # runs
    least: int = 3  # runs


def median_ms(run: Callable[[], object], device: torch.device, repeats: Repeats) -> float:
    """Median wall time of ``run`` in milliseconds, the device's work included."""
    return median(run_times(run, device, repeats))


def run_times(
    run: Callable[[], object], device: torch.device, repeats: Repeats, to_the_end: bool = True
) -> list[float]:
    """Wall times of ``run`` in milliseconds, the device's work included, one by one.

    Not ``to_the_end``: until ``run`` has returned, what it leaves for the device to do after that left out.
    """
    for _ in range(repeats.warm_up):
        run()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < repeats.least or (len(times) < _MOST and time.perf_counter() - started < repeats.seconds):
        _wait(device)
        begin = time.perf_counter()
        run()
        if to_the_end:
            _wait(device)
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
