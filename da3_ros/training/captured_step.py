"""Forward and backward pass of one kind of batch as a CUDA graph: thousands of kernels started at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from da3_ros.training.batch import SceneBatch

_WARM = 3       # passes that compile, choose kernels and allocate before the graph is captured


class CapturedStep:
    """``function(batch, *tensors)`` captured on a batch; called with others like it.

    What a call returns is overwritten by the next one. ``reset`` undoes what the passes before the capture did.
    ``pool``: of memory, which graphs that never run at the same time may share (torch.cuda.graph_pool_handle).
    """

    def __init__(
        self,
        function: Callable[..., dict[str, Tensor]],
        batch: SceneBatch,
        tensors: tuple[Tensor, ...],
        reset: Callable[[], Any],
        pool: Any,
    ):
        self._batch = SceneBatch(*(getattr(batch, field.name).clone() for field in fields(batch)))
        self._tensors = tuple(tensor.clone() for tensor in tensors)
        torch.cuda.synchronize()
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(_WARM):
                function(self._batch, *self._tensors)
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        # On a stream of its own: graphs that were captured on the same one share cuBLAS's workspace (pytorch issue
        # 193402), and this one is replayed while another makes scenes.
        with torch.cuda.graph(self._graph, pool=pool, stream=side, capture_error_mode="thread_local"):
            self._figures = function(self._batch, *self._tensors)
        reset()

    def __call__(self, batch: SceneBatch, *tensors: Tensor) -> dict[str, Tensor]:
        for field in fields(batch):
            getattr(self._batch, field.name).copy_(getattr(batch, field.name))
        for mine, given in zip(self._tensors, tensors, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return self._figures
