"""Stage times without host synchronisation: CUDA events on a GPU, the monotonic clock elsewhere."""

from __future__ import annotations

import time
from itertools import pairwise

import torch


class StageTimer:
    """Marks the ends of consecutive stages; ``durations_ms`` reads them after the device has finished."""

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._stages: list[str] = []
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []
        self.mark("start")

    def mark(self, stage: str) -> None:
        """End of ``stage``, and the beginning of the next one."""
        self._stages.append(stage)
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def durations_ms(self) -> dict[str, float]:
        """Stage -> milliseconds. On a GPU the work must have finished (the outputs were downloaded)."""
        if self._cuda:
            durations = [a.elapsed_time(b) for a, b in pairwise(self._events)]
        else:
            durations = [(b - a) * 1e3 for a, b in pairwise(self._times)]
        return dict(zip(self._stages[1:], durations, strict=True))
