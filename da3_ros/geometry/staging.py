"""Raw images from host memory to the device, on a stream of their own and without waiting for the network."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

Image = np.ndarray | torch.Tensor

# Uploads that can be under way at once: one that kernels read, one on its way and one that the host writes.
_SLOTS = 3
_COPY_THREADS = 3
# Bytes that are sent while the host writes the next ones. Each part costs the host more than sending so much takes, and
# a set of several images more, since each may have to wait for the interpreter's lock.
_PART = 1 << 22
_SHARED_PART = 1 << 19  # at least, of several images
_MOST_PARTS = 8


class UploadRing:
    """Preallocated pinned and device buffers, used in turn; they grow to the largest set seen. Not thread-safe.

    Events guard them: the host waits only if it is three uploads ahead of the copies. On the CPU there is one
    buffer, and it is the result.
    """

    def __init__(self, device: torch.device):
        self._device = device
        on_cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if on_cuda else None
        pool = ThreadPoolExecutor(_COPY_THREADS, "da3-upload")  # has no threads before there is work
        self._slots = [_CudaSlot(device, pool) for _ in range(_SLOTS)] if on_cuda else [_Slot()]
        self._next = 0

    @contextmanager
    def upload(self, images: Sequence[Image]) -> Iterator[torch.Tensor]:
        """The bytes of ``images`` (uint8, of any strides) one after the other, (n,) uint8 on the device.

        Those on the device already must be complete. Within the context, kernels of the current stream may read them.
        """
        slot = self._slots[self._next]
        self._next = (self._next + 1) % len(self._slots)
        size = sum(image.nbytes for image in images)
        slot.reserve(size)
        if self._stream is None:
            slot.write(images)
            yield slot.host[:size]
            return
        assert isinstance(slot, _CudaSlot)
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(slot.consumed)
            slot.write(images)
            slot.uploaded.record(self._stream)
        compute = torch.cuda.current_stream(self._device)
        compute.wait_event(slot.uploaded)
        try:
            yield slot.buffer[:size]
        finally:
            slot.consumed.record(compute)


class _Slot:
    """A buffer of host memory."""

    def __init__(self) -> None:
        self.host = torch.empty(0, dtype=torch.uint8)

    def reserve(self, size: int) -> None:
        """Have room for ``size`` bytes."""
        if self.host.numel() < size:
            self.host = torch.empty(size, dtype=torch.uint8)

    def write(self, images: Sequence[Image]) -> None:
        """Lay ``images`` one after the other."""
        for image, place in zip(images, _places(images, self.host), strict=True):
            np.copyto(place.numpy(), image)


class _CudaSlot(_Slot):
    """A buffer of pinned host memory, and one on the device with the events that guard both."""

    def __init__(self, device: torch.device, pool: ThreadPoolExecutor):
        super().__init__()
        self._pool = pool
        self.buffer = torch.empty(0, dtype=torch.uint8, device=device)
        self.uploaded = torch.cuda.Event()  # the pinned buffer may be written again
        self.consumed = torch.cuda.Event()  # the device buffer may be

    def reserve(self, size: int) -> None:
        self.uploaded.synchronize()  # of three uploads ago: it has passed unless the host runs far ahead
        if self.host.numel() < size:
            self.host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
            self.buffer = torch.empty(size, dtype=torch.uint8, device=self.buffer.device)
            # The allocator may have given memory that kernels of this stream still use.
            self.consumed.record(torch.cuda.current_stream(self.buffer.device))

    def write(self, images: Sequence[Image]) -> None:
        """Lay ``images`` one after the other in the device's buffer; each part is sent while others are still written.

        This thread writes from the front, and threads of our own from the back if they come to it in time: torch's
        spin between two copies, and hold each other up where cores are shared.
        """
        parts: deque[_Part] = deque()
        shared = max(_SHARED_PART, sum(image.nbytes for image in images) // _MOST_PARTS)
        part_size = _PART if len(images) == 1 else shared
        start = 0
        for image, host, device in zip(images, _places(images, self.host), _places(images, self.buffer), strict=True):
            if isinstance(image, torch.Tensor):
                device.copy_(image, non_blocking=True)
                image.record_stream(torch.cuda.current_stream(image.device))
                start += image.nbytes
                continue
            place = host.numpy()
            for rows in _parts(image, part_size):
                part = _Part(start, start + image[rows].nbytes, place[rows], image[rows])
                parts.append(part)
                start = part.end
        written: list[_Part] = []  # by the others
        helpers = [self._pool.submit(_write_last, parts, written) for _ in range(min(_COPY_THREADS, len(parts) // 2))]
        while parts:
            try:
                part = parts.popleft()
            except IndexError:  # another thread was faster
                break
            np.copyto(part.place, part.rows)
            self._send(part.start, part.end)
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        for first, end in _joined(written):
            self._send(first, end)

    def _send(self, start: int, end: int) -> None:
        self.buffer[start:end].copy_(self.host[start:end], non_blocking=True)


class _Part(NamedTuple):
    """Rows of an image, and the bytes of a buffer and the place in it to which they go."""

    start: int
    end: int
    place: np.ndarray
    rows: np.ndarray


def _write_last(parts: deque[_Part], written: list[_Part]) -> None:
    """Write what others have not taken yet, the last first."""
    while parts:
        try:
            part = parts.pop()
        except IndexError:
            return
        np.copyto(part.place, part.rows)
        written.append(part)


def _joined(parts: Sequence[_Part]) -> list[tuple[int, int]]:
    """First and last byte of runs of neighbours among ``parts``."""
    runs: list[tuple[int, int]] = []
    for part in sorted(parts, key=lambda part: part.start):
        if runs and runs[-1][1] == part.start:
            runs[-1] = (runs[-1][0], part.end)
        else:
            runs.append((part.start, part.end))
    return runs


def _places(images: Sequence[Image], buffer: torch.Tensor) -> list[torch.Tensor]:
    """Where in ``buffer`` (n,) each image lies, in its shape."""
    ends = np.cumsum([image.nbytes for image in images]).tolist()
    return [buffer[end - image.nbytes : end].view(image.shape) for image, end in zip(images, ends, strict=True)]


def _parts(image: np.ndarray, size: int) -> Iterator[slice]:
    """Runs of rows of ``image`` that together are all of it, of at most about ``size`` bytes each."""
    rows = max(1, len(image) * size // max(1, image.nbytes))
    for first in range(0, len(image), rows):
        yield slice(first, first + rows)
