"""What is kept of each view while it is in the window: preallocated device buffers, one row per slot."""

from __future__ import annotations

import torch

from da3_ros.model.regions import region


class ViewCache:
    """Tensors per view on the device, allocated at the first write. Nothing in it is ever moved."""

    def __init__(self, rows: int):
        self._rows = rows
        self._buffers: tuple[torch.Tensor, ...] = ()  # (rows, ...) each

    def write(self, rows: torch.Tensor, *values: torch.Tensor) -> None:
        """Keep ``values``, (n, ...) each, of n views in ``rows``, (n,) int64 on the device."""
        if not self._buffers:
            self._buffers = tuple(value.new_empty((self._rows, *value.shape[1:])) for value in values)
        for buffer, value in zip(self._buffers, values, strict=True):
            buffer.index_copy_(0, rows, value)

    def read(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What was kept, (N, ...) each, of the N views in ``rows``, (N,) int64, in their order."""
        return _gather(self._buffers, rows)

    def read_second(self, rows: torch.Tensor, index: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The same where what was kept is (n, choices, ...): for each view the one at ``index``, (N,) int64."""
        choices = self._buffers[0].shape[1]
        return _gather(tuple(buffer.flatten(0, 1) for buffer in self._buffers), rows * choices + index)


@region
def _gather(buffers: tuple[torch.Tensor, ...], rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(buffer.index_select(0, rows) for buffer in buffers)
