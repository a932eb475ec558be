"""Medians of repeated runs, on the CPU's clock or with CUDA events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

_LEAST, _MOST, _WARM_UP = 3, 200, 2


@dataclass(frozen=True)
class Repeats:
    """How long to repeat one measurement (seconds); at least 3 and at most 200 runs after 2 for warm-up."""

    seconds: float


def median_ms(run: Callable[[], object], device: torch.device, repeats: Repeats) -> float:
    """Median wall time of ``run`` in milliseconds, the device's work included."""
    for _ in range(_WARM_UP):
        run()
    times: list[float] = []
    started = time.perf_counter()
    while len(times) < _LEAST or (len(times) < _MOST and time.perf_counter() - started < repeats.seconds):
        _wait(device)
        begin = time.perf_counter()
        run()
        _wait(device)
        times.append((time.perf_counter() - begin) * 1e3)
    return median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
