"""Functions of tensors on CUDA as graphs, which the host launches with one call."""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

_log = logging.getLogger(__name__)
_REMEMBERED = 64  # calls of which it is known that they came once
# Of streams on which steps are captured: their kernels go before those of other streams, which have 0, the lowest. A
# graph's kernels keep the priority of the stream that it was captured on, wherever it is launched.
STEP_PRIORITY = -1

R = TypeVar("R")


def capture(program: Callable[[], R], stream: torch.cuda.Stream, pool: Any = None) -> tuple[torch.cuda.CUDAGraph, R]:
    """The graph of ``program``, and what it returns: tensors that every replay fills. Captured on ``stream``."""
    graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle() if pool is None else pool
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            outputs = program()
        finally:
            try:
                graph.capture_end()
            except RuntimeError as error:
                _tidy_up(stream.device, pool)
                cause = error.__context__  # what the program raised
                if isinstance(cause, torch.cuda.OutOfMemoryError):
                    raise cause from None
                raise
    torch.cuda.current_stream(stream.device).wait_stream(stream)
    return graph, outputs


def _tidy_up(device: torch.device, pool: Any) -> None:
    """After a capture that CUDA has given up, which torch leaves half open on the current stream's device.

    Its allocator would keep back all memory that other streams have used, for good, and its random numbers would
    fail until the next capture ends well.
    """
    with contextlib.suppress(RuntimeError):  # it may have been closed after all
        torch._C._cuda_endAllocateToPool(device.index, pool)
    graph, number = torch.cuda.CUDAGraph(), torch.zeros((), device=device)
    graph.capture_begin(capture_error_mode="thread_local")
    number.add_(1)
    graph.capture_end()


@dataclass
class _Captured:
    graph: torch.cuda.CUDAGraph
    outputs: Any
    kept: Any  # what the graph reads besides its inputs


class Replay:
    """Runs programs as they are the first time, and as graphs when the same comes up again. Not thread-safe.

    A program reads its inputs where they lie, so nothing is copied: it suits what takes the results of other graphs.
    It keeps to the device: no wait, no branch on data, no upload. ``limit``: most graphs that are kept, the one
    longest unused is given up; 0: none. Without CUDA there are none.
    """

    def __init__(self, device: torch.device, limit: int):
        self._limit = limit if device.type == "cuda" else 0
        self._graphs: OrderedDict[tuple, _Captured] = OrderedDict()
        self._met: OrderedDict[tuple, None] = OrderedDict()
        self._stream = torch.cuda.Stream(device, priority=STEP_PRIORITY) if self._limit else None

    def run(
        self,
        key: Hashable,
        inputs: Sequence[torch.Tensor | None],
        program: Callable[[], R],
        kept: Any = None,
        after: torch.cuda.Event | None = None,
    ) -> R:
        """``program()``, whose result the next run with the same ``key`` and inputs may overwrite, on the device.

        ``key``: all that the program depends on besides the values of ``inputs``, which are all tensors that it
        reads besides those that ``kept`` keeps alive. ``after``: it begins after that, if it is a graph.
        """
        if self._stream is None:
            return program()
        place = (
            key,
            *(None if one is None else (one.data_ptr(), one.dtype, one.shape, one.stride()) for one in inputs),
        )
        found = self._graphs.get(place)
        if found is None:
            if place not in self._met:
                self._met[place] = None
                if len(self._met) > _REMEMBERED:
                    self._met.popitem(last=False)
                return program()
            found = self._capture(place, program, kept)
            if found is None:
                return program()
        self._graphs.move_to_end(place)
        if after is not None:
            torch.cuda.current_stream(self._stream.device).wait_event(after)
        found.graph.replay()
        return found.outputs

    def _capture(self, place: tuple, program: Callable[[], Any], kept: Any) -> _Captured | None:
        assert self._stream is not None
        try:
            graph, outputs = capture(program, self._stream)
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            _log.warning("outputs cannot be captured as a CUDA graph, so they run one by one: %s", error)
            self._stream = None
            return None
        self._graphs[place] = captured = _Captured(graph, outputs, kept)
        while len(self._graphs) > self._limit:
            self._graphs.popitem(last=False)
        return captured
