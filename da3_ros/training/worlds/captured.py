"""A function of one tensor as a CUDA graph: thousands of small kernels started at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


class Captured(Generic[Result]):
    """``function`` of tensors like ``example``; what a call returns is overwritten by the next one.

    The function must not wait for the device nor branch on data. It runs once uncaptured, to fill its caches.
    """

    def __init__(self, function: Callable[[Tensor], Result], example: Tensor):
        self._input = example.clone()
        side = torch.cuda.Stream(example.device)
        side.wait_stream(torch.cuda.current_stream(example.device))
        with torch.cuda.stream(side):
            function(self._input)
        torch.cuda.current_stream(example.device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # On a stream of its own, or it would share cuBLAS's workspace with graphs that run beside it.
        with torch.cuda.graph(self._graph, stream=side, capture_error_mode="thread_local"):
            self._output = function(self._input)

    def __call__(self, value: Tensor) -> Result:
        self._input.copy_(value)
        self._graph.replay()
        return self._output
