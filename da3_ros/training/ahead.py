"""Making the next batches while the device still trains on the present ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

import torch

from da3_ros.training.batch import SceneBatch


class Ahead:
    """Calls ``make(group)``, which returns ``together`` batches as one, a group ahead; on CUDA on a stream of its own.

    Making scenes is many short kernels, as many for few scenes as for many, and training long ones: several batches at
    once, beside training, fill the device better than one by one in turn.
    """

    def __init__(self, make: Callable[[int], SceneBatch], together: int, device: torch.device):
        self._make, self._together = make, together
        # Of a higher priority, or it would wait for the long kernels after all.
        self._stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self._next: tuple[int, SceneBatch] | None = None
        self._present: tuple[int, SceneBatch] | None = None

    def take(self, number: int) -> SceneBatch:
        """The batch of that number, ready for the current stream; the same one again as often as it is asked for."""
        group, place = divmod(number, self._together)
        if self._present is None or self._present[0] != group:
            self._advance(group)
        assert self._present is not None
        count = len(self._present[1].images) // self._together
        return self._present[1].samples(slice(place * count, (place + 1) * count))

    def _advance(self, group: int) -> None:
        if self._next is None or self._next[0] != group:
            self._begin(group)
        assert self._next is not None
        self._present, self._next = self._next, None
        if self._stream is not None:
            training = torch.cuda.current_stream(self._stream.device)
            training.wait_stream(self._stream)
            for field in fields(SceneBatch):    # or the memory would be used again before training has read it
                getattr(self._present[1], field.name).record_stream(training)
            self._begin(group + 1)

    def _begin(self, group: int) -> None:
        if self._stream is None:
            self._next = (group, self._make(group))
            return
        # Not before training has come this far: the host may be many steps ahead, the batches must not be.
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            self._next = (group, self._make(group))
