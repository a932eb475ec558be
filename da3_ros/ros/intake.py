"""Subscriptions whose messages are taken in a thread of their own, serialized, and without the interpreter's lock.

rclpy's executor makes its wait set anew for every wake-up, from everything that the node has: with all its services,
timers and event handlers that takes longer than to take an image. The images of a set would queue up behind it, and
the transforms of a robot, which come by the hundred in a second, would leave Python little time for anything else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.guard_condition import GuardCondition
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.serialization import deserialize_message

from da3_ros.ros.rcl import Taken, Taker

# A context that is shut down wakes nobody.
_LOOK_NS = 500_000_000


class Intake:
    """Waits for messages and hands them on, from ``start`` to ``close``.

    The subscriptions are created with ``held`` as their callback group, so that the executor leaves them alone.
    ``failed`` gets what a consumer raises, after which nothing more is taken.
    """

    def __init__(self, node: Node, failed: Callable[[BaseException], None]):
        self.held = _Held()
        self._context = node.context
        self._failed = failed
        self._consumers: dict[Any, Callable[[Taken], None]] = {}  # by subscription; never changed, only replaced
        self._taker = Taker()
        self._closed = False
        self._wake = GuardCondition(None, None, self._context)
        self._thread = threading.Thread(target=self._run, name="da3-intake", daemon=True)

    def add(self, subscription: Any, consume: Callable[[Taken], None]) -> None:
        """Hand every message of ``subscription`` to ``consume``, in this object's thread."""
        self._consumers = {**self._consumers, subscription: consume}
        self._wake.trigger()

    def take_over(self, subscription: Any, callback: Callable[[Any], None], refused: Callable[[str], None]) -> None:
        """Hand every message of ``subscription``, which need not be ``held``, to ``callback``, not serialized.

        ``refused`` is told of what is no such message, which is left out.
        """
        subscription.callback_group = self.held

        def unpack(taken: Taken) -> None:
            try:
                message = unpacked(taken, subscription)
            except ValueError as error:
                refused(str(error))
            else:
                callback(message)

        self.add(subscription, unpack)

    def start(self) -> None:
        """Begin to take messages."""
        self._thread.start()

    def close(self) -> None:
        """Take nothing more; to be called before the subscriptions are destroyed, and not by a consumer."""
        if self._closed:
            return
        self._closed = True
        self._wake.trigger()
        if self._thread.ident is not None:
            self._thread.join()
        self._wake.destroy()

    def _run(self) -> None:
        try:
            while not self._closed and self._context.ok():
                self._take_from(self._consumers)
        except rclpy_implementation.RCLError as error:
            if self._context.ok():  # else it is shut down, and there is nothing to wait for
                self._failed(error)
        except BaseException as error:
            self._failed(error)

    def _take_from(self, consumers: dict[Any, Callable[[Taken], None]]) -> None:
        """Until others are wanted."""
        with ExitStack() as in_use:
            for each in (*consumers, self._wake, self._context):
                in_use.enter_context(each.handle)
            wait_set = rclpy_implementation.WaitSet(len(consumers), 1, 0, 0, 0, 0, self._context.handle)
            while not self._closed and self._consumers is consumers and self._context.ok():
                wait_set.clear_entities()
                wait_set.add_guard_condition(self._wake.handle)
                for subscription in consumers:
                    wait_set.add_subscription(subscription.handle)
                wait_set.wait(_LOOK_NS)
                ready = wait_set.get_ready_entities("subscription")
                for subscription, consume in consumers.items():
                    message = self._taker.take(subscription) if subscription.handle.pointer in ready else None
                    if message is not None:
                        consume(message)


def unpacked(taken: Taken, subscription: Any) -> Any:
    """The message that was taken from ``subscription``; raises ValueError where it is none of its type."""
    kind = subscription.msg_type
    try:
        return deserialize_message(taken.data.tobytes(), kind)
    except RuntimeError as error:  # RMWError is one
        text = " ".join(str(error).split())
        raise ValueError(f"what came on {subscription.topic_name} is no {kind.__name__} ({text})") from error


class _Held(CallbackGroup):
    """Nothing in it is executed."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass
