"""Calls that are made in order on a thread of their own: what is written or scored overlaps with what is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_MOST = 4  # calls that may wait: each holds an estimate of many megabytes


class Background:
    """Makes calls one after the other. What one raises is raised by the next ``do`` or by ``finish``, and no call is
    made after it."""

    def __init__(self, name: str) -> None:
        """``name`` of the thread, as profilers show it."""
        self._pool = ThreadPoolExecutor(1, name)
        self._waiting: deque[Future[None]] = deque()
        self._failed = False

    def do(self, call: Callable[..., None], *arguments: Any) -> None:
        """Make this call after the others; waits while too many are waiting."""
        while self._waiting and (len(self._waiting) >= _MOST or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._make, call, arguments))

    def finish(self) -> None:
        """Wait until all calls are made."""
        while self._waiting:
            self._waiting.popleft().result()
        self._pool.shutdown()

    def stop(self) -> None:
        """Make none of the calls that are waiting; wait for the one that is being made."""
        self._failed = True
        self._pool.shutdown()

    def _make(self, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._failed:
            return
        try:
            call(*arguments)
        except BaseException:
            self._failed = True
            raise
