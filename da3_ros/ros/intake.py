"""Subscriptions whose messages are taken serialized and without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.waitable import NumberOfEntities, Waitable

from da3_ros.ros.rcl import Taken, Taker


class Intake(Waitable):
    """Has the node's executor wait for messages, and takes them without the interpreter's lock.

    The subscriptions are created with ``held`` as their callback group, so that the executor leaves them alone.
    """

    def __init__(self, node: Node):
        super().__init__(node.default_callback_group)
        self.held = _Held()
        self._node = node
        self._consumers: dict[Any, Callable[[Taken], None]] = {}  # by subscription
        self._taker = Taker()
        self._ready: list[Any] = []
        self._in_use: list[ExitStack] = []
        node.add_waitable(self)

    def add(self, subscription: Any, consume: Callable[[Taken], None]) -> None:
        """Hand every message of ``subscription`` to ``consume``, in the executor's thread."""
        self._consumers[subscription] = consume

    def close(self) -> None:
        """Take nothing more; to be called before the subscriptions are destroyed."""
        self._consumers.clear()
        self._node.remove_waitable(self)

    def __enter__(self) -> None:
        with ExitStack() as stack:
            for subscription in self._consumers:
                stack.enter_context(subscription.handle)
            self._in_use.append(stack.pop_all())

    def __exit__(self, *error: object) -> None:
        self._in_use.pop().close()  # of what was entered, though it may have been closed since

    def get_num_entities(self) -> NumberOfEntities:
        """As Waitable."""
        return NumberOfEntities(num_subs=len(self._consumers))

    def add_to_wait_set(self, wait_set: Any) -> None:
        """As Waitable."""
        for subscription in self._consumers:
            wait_set.add_subscription(subscription.handle)

    def is_ready(self, wait_set: Any) -> bool:
        """As Waitable."""
        pointers = wait_set.get_ready_entities("subscription")
        self._ready = [each for each in self._consumers if each.handle.pointer in pointers]
        return bool(self._ready)

    def take_data(self) -> list[tuple[Any, Taken]]:
        """As Waitable: one message of each subscription that has one."""
        taken = [(each, self._taker.take(each)) for each in self._ready if each in self._consumers]
        return [(each, message) for each, message in taken if message is not None]

    async def execute(self, taken_data: list[tuple[Any, Taken]]) -> None:
        """As Waitable."""
        for subscription, message in taken_data:
            consume = self._consumers.get(subscription)
            if consume is not None:  # else closed by the one before
                consume(message)


class _Held(CallbackGroup):
    """Nothing in it is executed."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass
