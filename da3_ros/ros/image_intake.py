"""Images as they come from the middleware: their pixels stay where it put them, and nothing is unpacked in Python."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.waitable import NumberOfEntities, Waitable
from std_msgs.msg import Header

from da3_ros.ros.rcl import Taker

_ENCAPSULATION = 4  # bytes before the message; alignment counts from behind them


class TakenImage:
    """A serialized sensor_msgs/Image with that message's attributes; ``data`` is a view of ``serialized`` (n,) uint8.

    Raises ValueError for bytes that are no Image.
    """

    def __init__(self, serialized: np.ndarray):
        self.serialized = serialized
        read = _Reader(serialized)
        sec, nanosec = read.number("i"), read.number("I")
        self.header = Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=read.text())
        self.height, self.width = read.number("I"), read.number("I")
        self.encoding = read.text()
        self.is_bigendian = read.number("B")
        self.step = read.number("I")
        self.data = read.bytes(read.number("I"))


class ImageIntake(Waitable):
    """Has the node's executor wait for images, and takes them without the interpreter's lock.

    The subscriptions are created with ``held`` as their callback group, so that the executor leaves them alone.
    """

    def __init__(self, node: Node):
        super().__init__(node.default_callback_group)
        self.held = _Held()
        self._node = node
        self._consumers: dict[Any, Callable[[np.ndarray], None]] = {}  # by subscription
        self._taker = Taker()
        self._ready: list[Any] = []
        self._in_use: list[ExitStack] = []
        node.add_waitable(self)

    def add(self, subscription: Any, consume: Callable[[np.ndarray], None]) -> None:
        """Hand every serialized message of ``subscription`` to ``consume``, in the executor's thread."""
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

    def take_data(self) -> list[tuple[Any, np.ndarray]]:
        """As Waitable: one message of each subscription that has one."""
        taken = [(each, self._taker.take(each)) for each in self._ready if each in self._consumers]
        return [(each, data) for each, data in taken if data is not None]

    async def execute(self, taken_data: list[tuple[Any, np.ndarray]]) -> None:
        """As Waitable."""
        for subscription, data in taken_data:
            consume = self._consumers.get(subscription)
            if consume is not None:  # else closed by the one before
                consume(data)


class _Held(CallbackGroup):
    """Nothing in it is executed."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        pass


class _Reader:
    """Reads plain CDR, of either byte order, from its start on."""

    def __init__(self, serialized: np.ndarray):
        if serialized.size < _ENCAPSULATION:
            raise ValueError("the message is empty")
        self._order = "<" if serialized[1] & 1 else ">"
        self._body = serialized[_ENCAPSULATION:]
        self._at = 0

    def number(self, kind: str) -> int:
        layout = struct.Struct(self._order + kind)
        self._at += -self._at % layout.size
        return layout.unpack(self.bytes(layout.size))[0]

    def text(self) -> str:
        return self.bytes(self.number("I")).tobytes().rstrip(b"\0").decode()  # UnicodeDecodeError is a ValueError

    def bytes(self, size: int) -> np.ndarray:
        part = self._body[self._at : self._at + size]
        if part.size != size:
            raise ValueError(f"it ends after {self._body.size} bytes, where {self._at + size} are needed")
        self._at += size
        return part
