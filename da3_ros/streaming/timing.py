"""Stage times without host synchronisation: CUDA events on a GPU, the monotonic clock elsewhere."""

from __future__ import annotations

import time
from itertools import pairwise

import torch


class StageTimer:
    """Marks the ends of consecutive stages; ``durations_ms`` reads them after the device has finished.

    On a GPU the stages are those of the device: of a step that was submitted while the one before it was running they
    begin where that one ends.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._cuda = device.type == "cuda"
        self._stages: list[str] = []
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []
        self.mark("start")

    def mark(self, stage: str, event: torch.cuda.Event | None = None) -> None:
        """End of ``stage``, and the beginning of the next one. ``event``: its end, if on another stream."""
        self._stages.append(stage)
        if self._cuda:
            if event is None:
                event = torch.cuda.Event(enable_timing=True)
                event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def durations_ms(self) -> dict[str, float]:
        """Stage -> milliseconds. On a GPU it waits for what is still under way: the map's share of a step may be when
        the step's outputs are there."""
        if self._cuda:
            for event in self._events:
                event.synchronize()
            durations = [a.elapsed_time(b) for a, b in pairwise(self._events)]
        else:
            durations = [(b - a) * 1e3 for a, b in pairwise(self._times)]
        return dict(zip(self._stages[1:], durations, strict=True))
