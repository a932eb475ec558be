"""What making and serializing the messages of one set costs the node: by rclpy, and as they are sent.

Run with ``python -m da3_ros.cli.bench_messages``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from da3_ros.cli.bench import parse_image_size
from da3_ros.cli.bench_estimates import EstimatesOfSets
from da3_ros.config import Config
from da3_ros.datatypes import Estimate
from da3_ros.egress.estimates import EstimateMessages
from da3_ros.errors import ConfigError

_WARM_UP = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each kind of topic."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_messages", description=__doc__.splitlines()[0])
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--sets", type=int, default=3, help="sets in the window")
    parser.add_argument("--size", default="504x280", help="of depth")
    parser.add_argument("--repeat", type=int, default=100)
    given = parser.parse_args(arguments)
    try:
        size_hw = parse_image_size(given.size, "--size")
    except ConfigError as error:
        parser.error(str(error))
    names = tuple(f"camera{index}" for index in range(given.cameras))
    sets = EstimatesOfSets(names, given.sets, size_hw)
    typed, sent = _by_rclpy(sets.config), _as_sent(sets.config)
    times: dict[str, list[list[float]]] = {}
    for number in range(_WARM_UP + given.repeat):
        estimate = sets.estimate(number)
        found = typed(estimate), sent(estimate)
        for kind in found[0] if number >= _WARM_UP else ():
            for ours, theirs in zip(times.setdefault(kind, [[], []]), found, strict=True):
                ours.append(theirs[kind] * 1e3)
    print(f"{given.cameras} cameras, {given.sets} sets, {given.size}: milliseconds of one thread for each set, medians")
    print(f"{'':24}{'by rclpy':>10}{'as sent':>10}")
    for kind, both in times.items():
        print(f"{kind:24}" + "".join(f"{statistics.median(one):10.3f}" for one in both))


def _by_rclpy(config: Config) -> Callable[[Estimate], dict[str, float]]:
    from da3_ros.ros import small_messages, to_msg

    return _timed(EstimateMessages(to_msg.build, config), lambda topic, message: small_messages.serialize(message))


def _as_sent(config: Config) -> Callable[[Estimate], dict[str, float]]:
    from da3_ros.ros import small_messages, to_msg
    from da3_ros.ros.pixel_messages import Memory

    memory: dict[str, Memory] = defaultdict(Memory)

    def serialize(topic: str, message: Any) -> np.ndarray:
        if hasattr(message, "serialize"):  # of pixels, points and paths
            return message.serialize(memory[topic])
        return small_messages.serialize(message)

    return _timed(EstimateMessages(to_msg.build_for_sending, config), serialize)


def _timed(
    messages: EstimateMessages, serialize: Callable[[str, Any], object]
) -> Callable[[Estimate], dict[str, float]]:
    """What takes seconds for each kind of topic of an estimate."""

    def seconds(estimate: Estimate) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        for topic, make in messages.of(estimate, {"variant": "da3-base", "weights_trained": True}):
            begin = time.thread_time()
            serialize(topic, make())
            found[topic.partition("/")[2] or topic] += time.thread_time() - begin
        return found

    return seconds


if __name__ == "__main__":
    main()
