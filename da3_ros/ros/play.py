"""Plays a rosbag2 recording onto its topics as camera drivers would: ``python -m da3_ros.ros.play BAG``.

Messages go out as the bytes that were recorded. Those with one recorded time form a step. At a given rate steps go
out like clockwork, whatever becomes of them; without one, each waits until the node has answered those before it, so
that any machine gets everything. An answer is a CameraInfo of published depth: every network gives one, for every step
and with its stamp. ``/clock`` follows the recording.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader, ReaderError
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from tqdm import tqdm

from da3_ros.errors import ConfigError, Da3Error, InputError, UnavailableError
from da3_ros.ros.small_messages import message_class

# Some networks need long for the first step: kernels are chosen, graphs captured.
_FIRST_ANSWER_S = 180.0
# Later ones may take this long, or some times as long as the slowest before them.
_ANSWER_S, _ANSWER_TIMES = 30.0, 5.0
_REPORT_S = 5.0


@dataclass(frozen=True)
class Played:
    """What went out. ``lost``: steps without an answer in time (only counted when no rate is given)."""

    steps: int
    seconds: float
    messages: dict[str, int]
    lost: int


class Player(Node):
    """Publishers for the topics of a recording, and the ear for the node's answers on the topics ``answers``."""

    def __init__(self, reader: Reader, reliability: str, answers: Sequence[str]):
        super().__init__("da3_player")
        self._reader = reader
        policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
        self._senders = {
            connection.topic: self.create_publisher(
                message_class(connection.msgtype), connection.topic, _profile(connection, policy)
            )
            for connection in reader.connections
        }
        self._clock = self.create_publisher(Clock, "/clock", 10)
        self._answered_ns: int | None = None
        self._answers: set[int] = set()
        self._report_s = 0.0
        self._slowest_s = 0.0  # answer so far
        self._seen: dict[str, bool] = {}  # camera status in /diagnostics -> whether it names this node as publisher
        self._heard: set[str] = set()  # topics of the node that it knows a listener of
        for topic in answers:
            self.create_subscription(CameraInfo, topic, self._on_answer, 50)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_report, 10)

    def wait_for_listeners(self, topics: Sequence[str], outputs: Sequence[str], timeout_s: float) -> None:
        """Return once somebody listens on each of ``topics``, the node says of each camera that it sees us, and of
        each of its own topics in ``outputs`` that it has a listener: it makes nothing that nobody hears.

        Seen from here alone a connection may look complete while the other side still lacks its half, and what is
        sent best effort then is lost. Raises UnavailableError with what is missing.
        """

        def missing() -> list[str]:
            deaf = [topic for topic in topics if self._senders[topic].get_subscription_count() == 0]
            blind = [f"the node's {name}" for name, sees_us in self._seen.items() if not sees_us]
            unheard = [f"the node's {topic}" for topic in outputs if topic not in self._heard]
            return deaf + (blind + unheard if self._seen else ["the node's /diagnostics"])

        if not self._spin_until(lambda: not missing(), timeout_s):
            raise UnavailableError(f"nobody listens after {timeout_s:g} s to: {', '.join(missing())}")

    def play(self, rate_hz: float, ahead: int) -> Played:
        """Send everything; with ``rate_hz`` 0 stay at most ``ahead`` steps before the answers."""
        counts = dict.fromkeys(self._senders, 0)
        waiting: list[int] = []
        lost = 0
        steps = list(_step_stamps(self._reader))
        started = time.monotonic()
        for number, (stamp_ns, messages) in enumerate(
            zip(tqdm(steps, desc="play", unit="set", disable=not sys.stderr.isatty()), self._steps(), strict=True)
        ):
            if rate_hz:
                self._spin_for(started + number / rate_hz - time.monotonic())
            else:
                lost += self._wait_until_fewer(waiting, ahead)
            self._clock.publish(Clock(clock=_to_time(stamp_ns)))
            for topic, data in messages:
                # Nobody is listening to the ground truth, for one.
                if self._senders[topic].get_subscription_count():
                    self._senders[topic].publish(data)
                counts[topic] += 1
            waiting.append(stamp_ns)
        seconds = time.monotonic() - started
        if rate_hz:
            self._spin_until(lambda: waiting[-1] in self._answers, self._patience_s())
        else:
            lost += self._wait_until_fewer(waiting, 1)
        self._wait_for_report()
        return Played(len(steps), seconds, counts, lost)

    def _steps(self) -> Iterator[list[tuple[str, bytes]]]:
        for _, group in groupby(self._reader.messages(), key=lambda message: message[1]):
            yield [(connection.topic, bytes(data)) for connection, _, data in group]

    def _wait_until_fewer(self, waiting: list[int], limit: int) -> int:
        """Wait until less than ``limit`` steps of ``waiting`` lack an answer; returns how many were given up."""

        def settled() -> bool:
            if self._answered_ns is not None:
                waiting[:] = [stamp for stamp in waiting if stamp > self._answered_ns]
            return len(waiting) < limit

        given_up = 0
        started = time.monotonic()
        while not self._spin_until(settled, self._patience_s()):
            waiting.pop(0)
            given_up += 1
        if not given_up:
            self._slowest_s = max(self._slowest_s, time.monotonic() - started)
        return given_up

    def _patience_s(self) -> float:
        return max(_ANSWER_S, _ANSWER_TIMES * self._slowest_s) if self._answers else _FIRST_ANSWER_S

    def _wait_for_report(self) -> None:
        """Let the node report once more, so that its diagnostics cover everything that was sent."""
        now = time.monotonic()
        self._spin_until(lambda: self._report_s > now, _REPORT_S)

    def _spin_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            rclpy.spin_once(self, timeout_sec=min(left, 0.05))
        return True

    def _spin_for(self, seconds: float) -> None:
        self._spin_until(lambda: False, seconds)

    def _on_answer(self, message: CameraInfo) -> None:
        stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        # Cameras of one step may differ by some milliseconds: the newest has the stamp of the step.
        self._answered_ns = stamp_ns if self._answered_ns is None else max(stamp_ns, self._answered_ns)
        self._answers.add(stamp_ns)

    def _on_report(self, message: DiagnosticArray) -> None:
        self._report_s = time.monotonic()
        for status in message.status:
            publishers = [item.value for item in status.values if item.key == "publishers"]
            if publishers:
                self._seen[status.name] = self.get_fully_qualified_name() in publishers[0]
            for item in status.values:
                if item.key == "topics with listeners":
                    self._heard = set(item.value.split(", "))


def _profile(connection: Any, reliability: ReliabilityPolicy) -> QoSProfile:
    """As recorded where messages are latched; else as a camera driver: the last ten."""
    latched = any(qos.durability == QosDurability.TRANSIENT_LOCAL for qos in connection.ext.offered_qos_profiles)
    if latched:
        return QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    return QoSProfile(depth=10, reliability=reliability)


def _open(path: Path) -> Reader:
    """The recording ``path``; raises InputError where there is none that can be read."""
    try:
        return Reader(path)
    except (ReaderError, OSError) as error:
        raise InputError(f"{path} cannot be read as a recording: {' '.join(str(error).split())}") from error


def _step_stamps(reader: Reader) -> Iterator[int]:
    for stamp_ns, _ in groupby(reader.messages(), key=lambda message: message[1]):
        yield stamp_ns


def _to_time(stamp_ns: int) -> Any:
    return rclpy.time.Time(nanoseconds=stamp_ns).to_msg()


def main(arguments: Sequence[str] | None = None) -> int:
    """Play one recording; prints what went out, or what went wrong, as one line of JSON. Returns 2 for the latter."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bag", type=Path)
    parser.add_argument("--rate", type=float, default=0.0, help="steps a second; 0: as fast as the node answers")
    parser.add_argument("--ahead", type=int, default=1, help="steps that may be without an answer, without --rate")
    parser.add_argument("--reliability", choices=("reliable", "best_effort"), default="reliable")
    parser.add_argument(
        "--answers", nargs="*", default=[], metavar="TOPIC", help="<c>/depth/camera_info of the cameras of the node"
    )
    parser.add_argument("--wait-for", nargs="*", default=[], metavar="TOPIC", help="do not start without a listener")
    parser.add_argument(
        "--wait-heard", nargs="*", default=[], metavar="TOPIC", help="topics of the node that need a listener first"
    )
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for listeners")
    args = parser.parse_args(arguments)
    rclpy.init()
    try:
        if not args.rate and not args.answers:
            raise ConfigError("without --rate each step waits for the node: name its answers with --answers")
        with _open(args.bag) as reader:
            player = Player(reader, args.reliability, args.answers)
            player.wait_for_listeners(args.wait_for, args.wait_heard, args.timeout)
            print(json.dumps(asdict(player.play(args.rate, args.ahead))))
    except Da3Error as error:
        print(json.dumps({"error": str(error)}))
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):  # told to end, as by Ctrl-C in the demo
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
