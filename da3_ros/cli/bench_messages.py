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
import torch

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import (
    CameraOutput,
    Estimate,
    PointBuffer,
    ScaleEstimate,
    TrackingEstimate,
    ViewEstimate,
)
from da3_ros.egress.estimates import EstimateMessages
from da3_ros.streaming.transfer import pack, unpack

_POINT_BYTES = 16
_STEP_NS = 33_333_333
_WARM_UP = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each kind of topic."""
    parser = argparse.ArgumentParser(prog="python -m da3_ros.cli.bench_messages", description=__doc__.splitlines()[0])
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--sets", type=int, default=3, help="sets in the window")
    parser.add_argument("--size", default="504x280", help="of depth")
    parser.add_argument("--repeat", type=int, default=100)
    given = parser.parse_args(arguments)
    width, height = map(int, given.size.split("x"))
    names = tuple(f"camera{index}" for index in range(given.cameras))
    sets = _Sets(names, given.sets, (height, width))
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


class _Sets:
    """Estimates one after the other, all outputs of all cameras among them, as they come from a GPU."""

    def __init__(self, names: tuple[str, ...], sets: int, size_hw: tuple[int, int]):
        self.config = from_flat({"cameras": names}, Config)
        self._names, self._sets, self._size_hw = names, sets, size_hw
        height, width = size_hw
        cloud = torch.zeros((height, width, _POINT_BYTES), dtype=torch.uint8)
        tensors = {"points": cloud.view(1, -1, _POINT_BYTES).repeat(1, len(names), 1)}
        for name in names:
            tensors |= {f"depth/{name}": torch.ones(size_hw), f"confidence/{name}": torch.ones(size_hw)}
            tensors |= {f"points/{name}": cloud, f"dynamic/{name}": torch.zeros(size_hw, dtype=torch.uint8)}
        packed, places = pack(tensors)
        self._arrays = unpack(packed.numpy(), places)

    def estimate(self, number: int) -> Estimate:
        """That of the set with this number."""
        newest_ns, arrays, K = 10**18 + number * _STEP_NS, self._arrays, np.eye(3)
        views: list[ViewEstimate] = []
        outputs = []
        for age in reversed(range(self._sets)):
            for name in self._names:
                place = name, newest_ns - age * _STEP_NS, f"{name}_optical_frame"
                views.append(ViewEstimate(*place, age == 0, not views, np.eye(4), self._size_hw, K, K, 2.0))
                if age == 0:
                    points = PointBuffer(arrays[f"points/{name}"], place[2], dense=False)
                    maps = arrays[f"depth/{name}"], arrays[f"confidence/{name}"]
                    outputs.append(
                        CameraOutput(*place, K, self._size_hw, *maps, points, dynamic=arrays[f"dynamic/{name}"])
                    )
        off = dict.fromkeys(self._names, 0.01)
        return Estimate(
            newest_ns, number, tuple(views), tuple(outputs), np.eye(4), ScaleEstimate("rig", 1.0, 0.01),
            PointBuffer(arrays["points"], self.config.frames.odom, dense=True),
            tracking=TrackingEstimate("tracking", False, np.eye(6), misfit_rad=off, misfit_m=off),
        )  # fmt: skip


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
