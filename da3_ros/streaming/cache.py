"""What is kept of each view while it is in the window: preallocated device buffers, one row per slot."""

from __future__ import annotations

import torch

from da3_ros.streaming.window import Slot


class ViewCache:
    """Tensors per view on the device, allocated at the first write."""

    def __init__(self, rows: int):
        self._rows = rows
        self._buffers: tuple[torch.Tensor, ...] = ()  # (rows, ...) each

    def write(self, slots: tuple[Slot, ...], *values: torch.Tensor) -> None:
        """Keep ``values``, (n, ...) each, of the n views in ``slots``; always the same number of them."""
        if not self._buffers:
            self._buffers = tuple(value.new_empty((self._rows, *value.shape[1:])) for value in values)
        for buffer, value in zip(self._buffers, values, strict=True):
            buffer.index_copy_(0, _rows(slots, buffer.device), value)

    def read(self, slots: tuple[Slot, ...]) -> tuple[torch.Tensor, ...]:
        """What was kept, (N, ...) each, of the N views in ``slots``, in their order."""
        return tuple(buffer[_rows(slots, buffer.device)] for buffer in self._buffers)


def _rows(slots: tuple[Slot, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor([slot.index for slot in slots]).to(device, non_blocking=True)
