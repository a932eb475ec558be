"""Notes when a node's answers come, for measurements: ``python -m da3_ros.ros.answer_meter --node NAME``.

Listens to every topic of the node whose messages begin with a header. Times are those of the middleware: when the
node handed a message over (source timestamp) and when it had arrived in this process (reception timestamp). How long
Python then takes to pick it up does not count. The map, which comes now and then, is listened to and not counted.
Prints ``answering`` when a stamp has been answered on all topics, and on SIGINT or SIGTERM one line of JSON with
everything.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from da3_ros.egress.estimates import MAP_POINTS
from da3_ros.ros.intake import Intake
from da3_ros.ros.play import message_class
from da3_ros.ros.rcl import Taken
from da3_ros.ros.stamped import get_stamp, has_header

_LOOK_PERIOD_S = 0.2
# Topics appear one after another; so long after the last one they are taken to be all.
_COMPLETE_S = 1.0
_NOT_ANSWERS = ("/diagnostics", "/rosout", "/parameter_events")


@dataclass
class Answer:
    """What came for one stamp: number of topics, and the last message's times (nanoseconds since 1970)."""

    topics: int = 0
    published_ns: int = 0
    received_ns: int = 0


class AnswerMeter(Node):
    """Subscribes to the topics of the node ``name`` in ``namespace`` as they appear."""

    def __init__(self, name: str, namespace: str):
        super().__init__("da3_answer_meter")
        self._of_node = (name, namespace)
        self.failures: list[BaseException] = []
        # rclpy would need more than one core for 4 cameras at 30 Hz
        self._intake = Intake(self, self.failures.append)
        self._heard: set[str] = set()
        self.topics: set[str] = set()  # those on which every set is answered
        self.answers: dict[int, Answer] = defaultdict(Answer)
        self.diagnostics: dict[str, dict[str, str]] = {}
        self.complete = False  # a stamp has been answered on all topics
        self._newest_topic_s = time.monotonic()
        self._intake.start()
        self.create_timer(_LOOK_PERIOD_S, self._look)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def close(self) -> None:
        """Listen no more."""
        self._intake.close()

    def _look(self) -> None:
        try:
            found = self.get_publisher_names_and_types_by_node(*self._of_node)
        except NodeNameNonExistentError:
            return
        for topic, (kind, *_) in found:
            if topic in self._heard or topic in _NOT_ANSWERS or not has_header(message_class(kind)):
                continue
            subscription = self.create_subscription(
                message_class(kind), topic, lambda _: None, QoSProfile(depth=100), callback_group=self._intake.held
            )
            self._heard.add(topic)
            answers = answers_every_set(topic)
            self._intake.add(subscription, self._note if answers else lambda _: None)
            if answers:
                self.topics.add(topic)
                self._newest_topic_s = time.monotonic()

    def _note(self, message: Taken) -> None:
        answer = self.answers[get_stamp(message.data.data)]
        answer.topics += 1
        answer.published_ns = max(answer.published_ns, message.published_ns)
        answer.received_ns = max(answer.received_ns, message.received_ns)
        if answer.topics == len(self.topics) and time.monotonic() - self._newest_topic_s > _COMPLETE_S:
            self.complete = True

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.diagnostics[status.name] = {item.key: item.value for item in status.values}


def answers_every_set(topic: str) -> bool:
    """Whether the node publishes something on ``topic`` for every set of images."""
    return topic.rpartition("/")[2] != MAP_POINTS.rpartition("/")[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Listen until a signal comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--node", required=True, help="whose topics")
    parser.add_argument("--namespace", default="/", help="of that node")
    args = parser.parse_args(arguments)
    ended: list[bool] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.append(True))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    meter = AnswerMeter(args.node, args.namespace)
    announced = False
    while not ended:
        rclpy.spin_once(meter, timeout_sec=0.1)
        if meter.failures:
            raise meter.failures[0]
        if meter.complete and not announced:
            print("answering", flush=True)
            announced = True
    meter.close()
    answers = {
        stamp_ns: (answer.topics, answer.published_ns, answer.received_ns) for stamp_ns, answer in meter.answers.items()
    }
    print(json.dumps({"topics": sorted(meter.topics), "answers": answers, "diagnostics": meter.diagnostics}))
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
