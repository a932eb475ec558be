"""Regions: parts of the network that are compiled one at a time.

A network of forty layers is too large to be compiled as a whole while somebody waits, but it is made of few kinds of
parts. Each part is a region: its calls with arguments of the same kinds and shapes share one compiled artefact,
whichever layer they are made for. Nothing is compiled unless a caller asks for it (``compiled_regions``).
"""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch

from da3_ros.model.attention import keep_choices

P = ParamSpec("P")
R = TypeVar("R")


class _Mode(threading.local):
    backend: str | None = None          # that regions run through in this thread; None: as they are


_mode = _Mode()
_MOST_KINDS = 256                       # of arguments for one region; torch gives up after 8 by default


def region(function: Callable[P, R]) -> Callable[P, R]:
    """Makes ``function``, of tensors and modules, a region. It must not branch on data."""
    compiled: dict[str, Callable[..., Any]] = {}

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        # Within a region, and in a network that is compiled or exported as a whole, regions are plain functions.
        if torch.compiler.is_compiling() or _mode.backend is None:
            return function(*args, **kwargs)
        if _mode.backend not in compiled:
            compiled[_mode.backend] = torch.compile(function, fullgraph=True, dynamic=False, backend=_mode.backend)
        return compiled[_mode.backend](*args, **kwargs)

    return call


@contextmanager
def compiled_regions(*, new: bool, backend: str = "inductor") -> Iterator[None]:
    """Within it, this thread's calls of regions run what was compiled for their kinds of arguments.

    Where there is nothing compiled yet they compile it, which takes seconds, or without ``new`` run as they are.
    """
    import torch._dynamo  # here, because it takes a second that only those pay who compile

    if new:
        keep_choices()
    before, _mode.backend = _mode.backend, backend
    stance = "default" if new else "eager_on_recompile"
    limits: Any = torch._dynamo.config
    try:
        patch = limits.patch(recompile_limit=_MOST_KINDS, accumulated_recompile_limit=4 * _MOST_KINDS)
        with patch, torch.compiler.set_stance(stance):
            yield
    finally:
        _mode.backend = before
