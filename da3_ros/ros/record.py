"""Records what a node publishes as rosbag2 (mcap): ``python -m da3_ros.ros.record BAG --node NAME``.

Messages are written as the bytes that came in, under the time at which they came. Ends on SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rclpy
from ament_index_python.packages import get_package_share_directory
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from da3_ros.egress.bag import BagWriter
from da3_ros.ros.play import message_class

_LOOK_PERIOD_S = 0.2
# After the signal, go on until nothing has come for so long.
_QUIET_S = 0.3
# Every node has these; they say nothing about its work.
_IGNORED = ("/rosout", "/parameter_events")


class Recorder(Node):
    """Subscribes to every topic on which the node ``name`` in ``namespace`` publishes, as they appear."""

    def __init__(self, writer: BagWriter, name: str, namespace: str):
        super().__init__("da3_recorder")
        self._writer = writer
        self._of_node = (name, namespace)
        self._store = get_typestore(Stores.ROS2_KILTED)
        self._topics: set[str] = set()
        self.last_arrival_s = time.monotonic()
        self.create_timer(_LOOK_PERIOD_S, self._look)

    def hears(self, topics: Sequence[str]) -> bool:
        """Whether all of ``topics`` are being recorded, their publishers being connected."""
        connected = {sub.topic_name for sub in self.subscriptions if sub.get_publisher_count() > 0}
        return set(topics) <= self._topics & connected

    def _look(self) -> None:
        try:
            found = self.get_publisher_names_and_types_by_node(*self._of_node)
        except NodeNameNonExistentError:
            return
        for topic, types in found:
            if topic not in self._topics and topic not in _IGNORED:
                self._record(topic, types[0])
                self._topics.add(topic)

    def _record(self, topic: str, kind: str) -> None:
        register_type(self._store, kind)

        def write(data: bytes) -> None:
            self.last_arrival_s = time.monotonic()
            self._writer.write_raw(topic, kind, time.time_ns(), data, self._store)

        self.create_subscription(message_class(kind), topic, write, self._profile(topic), raw=True)

    def _profile(self, topic: str) -> QoSProfile:
        """The strongest that every publisher of ``topic`` offers, with room for bursts."""
        offered = [info.qos_profile for info in self.get_publishers_info_by_topic(topic)]
        latched = all(qos.durability == DurabilityPolicy.TRANSIENT_LOCAL for qos in offered)
        reliable = all(qos.reliability == ReliabilityPolicy.RELIABLE for qos in offered)
        return QoSProfile(
            depth=100,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )


def register_type(store: Any, kind: str) -> None:
    """Make ``kind`` and all that it contains known to a rosbags type store, from the installed message files."""
    if kind in store.types:
        return
    package, _, name = kind.split("/")
    definition = Path(get_package_share_directory(package), "msg", f"{name}.msg").read_text()
    found = get_types_from_msg(definition, kind)
    for part in _names_in(found):
        if part not in found:
            register_type(store, part)
    store.register(found)


def _names_in(tree: Any) -> list[str]:
    """Names of message types anywhere in rosbags' nested description of fields."""
    if isinstance(tree, str):
        return [tree] if tree.count("/") == 2 else []
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [name for part in tree for name in _names_in(part)] if isinstance(tree, (list, tuple)) else []


def main(arguments: Sequence[str] | None = None) -> int:
    """Record until a signal comes; prints ``recording`` when everything in ``--expect`` is being recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--node", required=True, help="whose topics")
    parser.add_argument("--namespace", default="/", help="of that node")
    parser.add_argument("--expect", nargs="*", default=[], metavar="TOPIC", help="topics to wait for")
    args = parser.parse_args(arguments)
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    with BagWriter(args.bag) as writer:
        recorder = Recorder(writer, args.node, args.namespace)
        announced = False
        while not ended or time.monotonic() - recorder.last_arrival_s < _QUIET_S:
            rclpy.spin_once(recorder, timeout_sec=0.1)
            if not announced and recorder.hears(args.expect):
                print("recording", flush=True)
                announced = True
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
