"""Results from the device to host memory: one packed buffer, one copy on a stream of its own, one event to wait for."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch

_WORD = 4  # bytes; what consists of whole words is moved in words, for which the device is fastest
# What becomes a message has room for what the message has before and behind it, so that nothing is copied once more.
_LARGE = 4096  # bytes, from which on a copy would be worth speaking of
_BEFORE, _BEHIND = 512, 16


class Place(NamedTuple):
    """Where a tensor lies in a packed buffer."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int  # byte


def pack(tensors: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Place]]:
    """The bytes of ``tensors`` in one buffer (n,) uint8 on their device, and where each lies.

    What consists of whole words comes first and begins at a word. Large ones have room about them (``surroundings``).
    """
    device = next(iter(tensors.values())).device
    before, behind = (torch.empty(room, dtype=torch.uint8, device=device) for room in (_BEFORE, _BEHIND))
    words: list[torch.Tensor] = []
    rest: list[torch.Tensor] = []
    places = {}
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    whole = {name: size % _WORD == 0 and _aligned(tensors[name]) for name, size in sizes.items()}
    start = 0
    for name in sorted(tensors, key=lambda name: not whole[name]):
        tensor, large = tensors[name], sizes[name] >= _LARGE
        parts = [before, tensor.reshape(-1), behind] if large else [tensor.reshape(-1)]
        places[name] = Place(tensor.dtype, tuple(tensor.shape), start + _BEFORE * large)
        start += sizes[name] + (_BEFORE + _BEHIND) * large
        if whole[name]:
            words += [part.view(torch.int32) for part in parts]
        else:
            rest += [part.view(torch.uint8) for part in parts]
    packed = torch.empty(start, dtype=torch.uint8, device=device)
    split = sum(part.numel() for part in words) * _WORD
    if words:
        torch.cat(words, out=packed[:split].view(torch.int32))
    if rest:
        torch.cat(rest, out=packed[split:])
    return packed, places


def _aligned(tensor: torch.Tensor) -> bool:
    """Whether the memory of ``tensor`` can be seen as words; what is not contiguous is copied, and then it can."""
    return not tensor.is_contiguous() or tensor.storage_offset() * tensor.element_size() % _WORD == 0


def unpack(packed: np.ndarray, places: Mapping[str, Place]) -> dict[str, np.ndarray]:
    """The arrays in ``packed`` (n,) uint8, as views of it."""
    arrays = {}
    memory: Any = (ctypes.c_uint8 * packed.nbytes).from_address(packed.ctypes.data)  # which can have attributes
    memory.owner = packed
    for name, (dtype, shape, start) in places.items():
        array_dtype = np.dtype(str(dtype).removeprefix("torch."))
        arrays[name] = np.ndarray(shape, array_dtype, memory, start)
    memory.roomy = {places[name].start: array.nbytes for name, array in arrays.items() if array.nbytes >= _LARGE}
    return arrays


def surroundings(data: np.ndarray, before: int, behind: int) -> np.ndarray | None:
    """``data`` (n,) uint8 with so many bytes more on either side, (before + n + behind,); None where there is no room.

    There is about large arrays of ``unpack``, and those that begin as one does, whose rest is then overwritten. Only
    one caller at a time may write there.
    """
    memory: Any = data.base
    while isinstance(memory, np.ndarray):
        memory = memory.base
    roomy = getattr(memory, "roomy", None)
    if roomy is None or before > _BEFORE or behind > _BEHIND:
        return None
    start = data.ctypes.data - ctypes.addressof(memory)
    if data.nbytes > roomy.get(start, -1):
        return None
    return np.ndarray((before + data.nbytes + behind,), np.uint8, memory, start - before)


class Downloader:
    """Starts downloads of what the current stream computes, without waiting for it.

    Each has pinned memory of its own from torch's cache, which hands it out again when the last array in it is gone:
    whoever keeps an array keeps its values.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def start(self, tensors: Mapping[str, torch.Tensor]) -> Download:
        """Bring ``tensors`` to the host; on the CPU they are handed over as they are. They may be overwritten after."""
        if self._stream is None:
            return Download({name: tensor.numpy() for name, tensor in tensors.items()})
        return self.fetch(*pack(tensors))

    def fetch(self, packed: torch.Tensor, places: Mapping[str, Place]) -> Download:
        """The same of what ``pack`` gave, which may be overwritten after the download's ``done``."""
        assert self._stream is not None
        pinned = torch.empty(packed.shape, dtype=torch.uint8, pin_memory=True)
        ready = torch.cuda.Event(enable_timing=True)
        done = torch.cuda.Event(enable_timing=True, blocking=True)  # who waits for it sleeps
        ready.record(torch.cuda.current_stream(self._device))
        self._stream.wait_event(ready)
        with torch.cuda.stream(self._stream):
            pinned.copy_(packed, non_blocking=True)
            done.record(self._stream)
        packed.record_stream(self._stream)
        return Download(unpack(pinned.numpy(), places), ready, done)


class Download:
    """Arrays on their way to the host. ``ready``: the device has computed them, ``done``: they are there; None where
    nothing had to be moved.
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        ready: torch.cuda.Event | None = None,
        done: torch.cuda.Event | None = None,
    ):
        self._arrays = arrays
        self.ready = ready
        self.done = done

    def wait(self, spin: bool = False) -> dict[str, np.ndarray]:
        """The arrays, once they are complete. A failure of the device on the way is raised here.

        The thread sleeps meanwhile, from which it wakes 0.1 ms late (docs/performance.md); not if it is to ``spin``.
        """
        if self.done is not None:
            while spin and not self.done.query():
                pass
            self.done.synchronize()
        return self._arrays
