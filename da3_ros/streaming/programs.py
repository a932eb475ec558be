"""Runs the parts of a step: as they are, or on CUDA as captured graphs that the host launches with one call.

A program is a function of tensors that keeps to the device: no wait, no branch on data. A graph belongs to a program
and the shapes of its inputs. Compiling takes seconds and happens in ``warm_up`` only; capturing takes as long as a few
steps and happens for shapes that come up again. The number of graphs is bounded: a new one takes the place of one that
has been idle for long, and where all are in use, what has none runs as it is. So shapes that come and go faster than
graphs can be kept, those of cameras that flicker, do not have each step wait for a capture.
"""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from da3_ros.cuda_graphs import STEP_PRIORITY, capture
from da3_ros.model.attention import measured, without_plans
from da3_ros.model.regions import compiled_regions

_log = logging.getLogger(__name__)
_WARM_UP_RUNS = 2
_IDLE_RUNS = 256  # of programs, after which a graph that none of them was makes room for another

R = TypeVar("R")
S = TypeVar("S")


@dataclass
class _Captured:
    graph: torch.cuda.CUDAGraph
    inputs: tuple[torch.Tensor, ...]
    outputs: Any
    used: int  # the run, by its number, that used it last


class Programs:
    """``execution``: eager; graphs, captured as they are; or compiled, and captured. ``limit``: most graphs that are
    kept. ``repeatable``: kernels are chosen by rule; else by their measured times, which may choose others, that round
    otherwise, in another run. For one thread.

    What ``run`` returns lies in buffers that the next call of any program may overwrite.
    """

    def __init__(self, device: torch.device, execution: str, limit: int, repeatable: bool = False):
        self.device = device
        self.execution = execution
        self._repeatable = repeatable
        self._limit = limit
        self._graphs: OrderedDict[tuple, _Captured] = OrderedDict()
        self._met: set[tuple] = set()
        self._runs = 0
        self._pool: Any = None
        self._stream = torch.cuda.Stream(device, priority=STEP_PRIORITY) if execution != "eager" else None
        self._side = torch.cuda.Stream(device, priority=STEP_PRIORITY) if device.type == "cuda" else None

    @property
    def graphs(self) -> int:
        """Number of graphs that are kept."""
        return len(self._graphs)

    def run(self, name: str, program: Callable[..., R], *inputs: torch.Tensor) -> R:
        """``program(*inputs)``, on the device; inputs on the host must be pinned, else the host waits for them."""
        key = _key(name, inputs)
        captured = self._graphs.get(key)
        self._runs += 1
        if captured is None:
            if self.execution == "eager" or key not in self._met or not self._room():
                self._met.add(key)
                with self._in_flight():
                    return program(*self._upload(inputs))
            found = self._capture(key, program, inputs)
            if found is None:
                return self.run(name, program, *inputs)
            captured = found
        else:
            self._graphs.move_to_end(key)
            captured.used = self._runs
            for static, value in zip(captured.inputs, inputs, strict=True):
                static.copy_(value, non_blocking=True)
        captured.graph.replay()
        return captured.outputs

    def beside(self, main: Callable[[], R], small: Callable[[], S]) -> tuple[R, S]:
        """Results of both, for use within programs: on CUDA ``small`` runs on a stream of its own meanwhile."""
        if self._side is None:
            return main(), small()
        current = torch.cuda.current_stream(self.device)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            second = small()
        first = main()
        current.wait_stream(self._side)
        return first, second

    def warm_up(self, name: str, program: Callable[..., Any], *inputs: torch.Tensor) -> None:
        """Compile ``program`` for inputs of these shapes and capture it; without graphs there is nothing to do.

        Takes seconds and waits for the device. The caches that the program writes to are written to.
        """
        if self.execution == "eager":
            return
        on_device = self._upload(inputs)
        by_time = not self._repeatable
        with _fastest_convolutions() if by_time else nullcontext():
            with measured() if by_time else without_plans():
                program(*on_device)  # also makes caches and tables, outside the pool of the graphs
            if self.execution == "compiled":
                self._compile(program, on_device)
            key = _key(name, inputs)
            self._met.add(key)
            self._capture(key, program, inputs)
        torch.cuda.empty_cache()  # what compiling and measuring needed

    def _compile(self, program: Callable[..., Any], inputs: tuple[torch.Tensor, ...]) -> None:
        """Compile the regions of ``program``; where that fails, say so once and go on without."""
        _keep_compiled_code()
        try:
            with compiled_regions(new=True):
                program(*inputs)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # whatever the compiler, Triton or the host's toolchain raises
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            _log.warning("torch.compile does not work here, so steps run on uncompiled kernels: %s", reason)
            _log.debug("what torch.compile raised", exc_info=error)
            self.execution = "graphs"

    def _room(self) -> bool:
        """Whether another graph may be captured: there are few, or one is idle."""
        return len(self._graphs) < self._limit or self._runs - next(iter(self._graphs.values())).used > _IDLE_RUNS

    def _capture(self, key: tuple, program: Callable[..., Any], inputs: tuple[torch.Tensor, ...]) -> _Captured | None:
        """The graph of ``program``; None where CUDA cannot capture it: that is said, and nothing is captured any more.

        Graphs that are there stay in use. What the program itself raises is raised.
        """
        static = tuple(value.clone() for value in self._upload(inputs))
        stream = self._stream
        assert stream is not None
        if not self._graphs:
            self._pool = torch.cuda.graph_pool_handle()  # a pool ends with the last graph in it
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with self._in_flight():
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP_RUNS):
                    program(*static)
            try:
                graph, outputs = capture(lambda: program(*static), stream, self._pool)
            except torch.cuda.OutOfMemoryError:
                raise
            except RuntimeError as error:
                _log.warning("a step cannot be captured as a CUDA graph, so steps run eagerly, and slower: %s", error)
                self.execution = "eager"
                return None
        self._graphs[key] = captured = _Captured(graph, static, outputs, self._runs)
        while len(self._graphs) > self._limit:
            self._graphs.popitem(last=False)
        return captured

    @contextmanager
    def _in_flight(self) -> Iterator[None]:
        """What was compiled is used; nothing is compiled, and no kernel is planned for a new shape."""
        compiled = compiled_regions(new=False) if self.execution == "compiled" else nullcontext()
        with without_plans(), compiled:
            yield

    def _upload(self, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(value.to(self.device, non_blocking=True) for value in inputs)


def _key(name: str, inputs: tuple[torch.Tensor, ...]) -> tuple:
    return (name, *(tuple(value.shape) for value in inputs))


@contextmanager
def _fastest_convolutions() -> Iterator[None]:
    """cuDNN measures its kernels for every shape within it, instead of guessing."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _keep_compiled_code() -> None:
    """Let torch keep compiled code in the user's cache folder instead of a temporary one, unless told otherwise."""
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "da3_ros"
    if os.environ.get("TORCHINDUCTOR_CACHE_DIR") in (None, default_cache_dir()):     # which torch itself has set
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache / "inductor")
