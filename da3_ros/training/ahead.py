"""Making the next batch while the device still trains on the present one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch

from da3_ros.training.batch import SceneBatch


class Ahead:
    """Calls ``make(number)`` one batch ahead, on CUDA on a stream of its own.

    Rendering is many short kernels and training long ones: side by side they fill the device better than in turn.
    """

    def __init__(self, make: Callable[[int], SceneBatch], device: torch.device):
        self._make = make
        # Of a higher priority, or it would wait for the long kernels after all.
        self._stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self._next: tuple[int, SceneBatch] | None = None

        self._present: tuple[int, SceneBatch] | None = None

    def take(self, number: int) -> SceneBatch:
        """The batch of that number, ready for the current stream; the same one again as often as it is asked for."""
        if self._present is not None and self._present[0] == number:
            return self._present[1]
        if self._next is None or self._next[0] != number:
            self._begin(number)
        assert self._next is not None
        self._present, self._next = self._next, None
        batch = self._present[1]
        if self._stream is not None:
            training = torch.cuda.current_stream(self._stream.device)
            training.wait_stream(self._stream)
            for field in fields(batch):     # or the memory would be used again before training has read it
                getattr(batch, field.name).record_stream(training)
            self._begin(number + 1)
        return batch

    def _begin(self, number: int) -> None:
        if self._stream is None:
            self._next = (number, self._make(number))
            return
        # Not before training has come this far: the host may be many steps ahead, the batches must not be.
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            self._next = (number, self._make(number))
