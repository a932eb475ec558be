"""A thread with a bounded, drop-oldest inbox: callbacks hand over and go on, one thread does the work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Worker(Generic[Item]):
    """Runs ``handle(item)`` for the items submitted, in order, in one thread of its own.

    When more than ``capacity`` items wait, the oldest is dropped and ``on_drop(item)`` is called (in the thread that
    submitted); where the items after it must know of it, ``merge(dropped, next)`` is what the next one becomes. Calls
    go before items. An exception of ``handle`` ends the thread and goes to ``on_failure``.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[Item], None],
        capacity: int,
        on_drop: Callable[[Item], None],
        on_failure: Callable[[BaseException], None],
        merge: Callable[[Item, Item], Item] | None = None,
    ):
        self._handle = handle
        self._capacity = capacity
        self._on_drop = on_drop
        self._on_failure = on_failure
        self._merge = merge
        self._wake = threading.Condition()
        self._items: deque[Item] = deque()
        self._calls: deque[tuple[Callable[[], Any], Future | None]] = deque()
        self._stopping = False
        # A daemon: a step that hangs in a driver must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> None:
        """Queue ``item``; drops the oldest one waiting when the inbox is full. Ignored once stopped."""
        dropped = None
        with self._wake:
            if self._stopping:
                return
            if len(self._items) >= self._capacity:
                dropped = self._items.popleft()
            self._items.append(item)
            if dropped is not None and self._merge is not None:
                self._items[0] = self._merge(dropped, self._items[0])
            self._wake.notify()
        if dropped is not None:
            self._on_drop(dropped)

    def call(self, function: Callable[[], Result]) -> Future[Result]:
        """Run ``function`` in the thread, before the items that wait; the future carries result or exception."""
        future: Future[Result] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)

        if not self._enqueue(run, future):
            future.cancel()
        return future

    def post(self, function: Callable[[], Any]) -> None:
        """Like ``call`` without a result: an exception of ``function`` ends the thread, as one of ``handle``."""
        self._enqueue(function, None)

    def _enqueue(self, function: Callable[[], Any], future: Future | None) -> bool:
        with self._wake:
            if not self._stopping:
                self._calls.append((function, future))
                self._wake.notify()
            return not self._stopping

    def clear(self) -> int:
        """Forget the items that wait; returns how many they were."""
        with self._wake:
            count = len(self._items)
            self._items.clear()
        return count

    def stop(self, timeout_s: float) -> bool:
        """Finish the item in work, forget the rest and end; False when the thread is still busy after the time."""
        self._refuse()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _refuse(self) -> None:
        """Take nothing more, and let nobody wait for what will not be done."""
        with self._wake:
            self._stopping = True
            self._items.clear()
            futures = [future for _, future in self._calls if future is not None]
            self._calls.clear()
            self._wake.notify()
        for future in futures:
            future.cancel()

    def _run(self) -> None:
        try:
            while self._work_once():
                pass
        except BaseException as error:
            self._refuse()
            self._on_failure(error)

    def _work_once(self) -> bool:
        with self._wake:
            self._wake.wait_for(lambda: self._stopping or self._calls or self._items)
            if self._stopping:
                return False
            function = self._calls.popleft()[0] if self._calls else None
            item = self._items.popleft() if function is None else None
        if function is not None:
            function()
        else:
            self._handle(item)  # type: ignore[arg-type]
        return True
