"""Entities of the node that the executor need not look at each time it wakes up."""

from __future__ import annotations

import time
import weakref
from typing import Any

from rclpy.callback_groups import CallbackGroup


class Occasional(CallbackGroup):
    """Each of its entities is waited for once in ``period_s``, from one wake-up on to the next or the one after it.

    rclpy makes its wait set anew for every wake-up, and each publisher has event handlers, which report partners with
    whom it cannot talk: with the 70 of this node that takes milliseconds, for every image and transform that comes.
    An event stays until it is taken, so that it is only reported later.
    """

    def __init__(self, period_s: float = 1.0) -> None:
        super().__init__()
        self._period_s = period_s
        self._due_s: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self._waited_for: weakref.WeakSet[Any] = weakref.WeakSet()

    def can_execute(self, entity: Any) -> bool:
        """Whether the executor should wait for ``entity``, and, when it is ready then, execute it."""
        # The executor asks again before it executes what it has waited for. Where that was not ready, this is the next
        # wake-up, and it is waited for once more.
        if entity in self._waited_for:
            self._waited_for.discard(entity)
            return True
        now_s = time.monotonic()
        if now_s < self._due_s.get(entity, now_s):
            return False
        self._due_s[entity] = now_s + self._period_s
        self._waited_for.add(entity)
        return True

    def beginning_execution(self, entity: Any) -> bool:
        """Always: one does not keep another from being executed."""
        return True

    def ending_execution(self, entity: Any) -> None:
        """Nothing to be done."""
