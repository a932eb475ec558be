"""Filters that pass messages on to callbacks, and the subscription that feeds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node


class SimpleFilter:
    """A source of messages that others connect to."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def registerCallback(self, cb: Callable[..., None], *args: Any) -> int:
        """Have ``cb(*messages, *args)`` called for every output; returns the connection's number."""
        connection = len(self.callbacks)
        self.callbacks[connection] = (cb, args)
        return connection

    def signalMessage(self, *msg: Any) -> None:
        """Hand an output to every registered callback, in the order of registration."""
        for callback, args in self.callbacks.values():
            callback(*msg, *args)


class Subscriber(SimpleFilter):
    """A ROS subscription as a filter: its output is each message that arrives.

    ``kwargs`` go to ``Node.create_subscription`` as they are (``qos_profile``, ``qos_overriding_options``,
    ``callback_group`` ...); ``qos_profile`` is a depth of 10 where it is not given. Attributes that a filter
    does not have are those of the subscription, which is ``sub``.
    """

    def __init__(self, node: Node, msg_type: Any, topic: str, **kwargs: Any) -> None:
        super().__init__()
        self.node = node
        self.topic = topic
        kwargs.setdefault("qos_profile", 10)
        self.sub = node.create_subscription(msg_type, topic, self.signalMessage, **kwargs)

    def getTopic(self) -> str:
        """The topic as it was given, before expansion and remapping."""
        return self.topic

    def __getattr__(self, name: str) -> Any:
        if name == "sub":  # create_subscription raised, so there is nothing to pass on to
            raise AttributeError(name)
        return getattr(self.sub, name)
