"""Processes of ``da3-ros bench --ros``: the node, cameras that send to it over DDS, and a meter of its answers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from da3_ros.bringup import bringup
from da3_ros.cli.bench_ros_figures import Answers, Figures, Sent, evaluate
from da3_ros.cli.processes import background, end
from da3_ros.cli.ros_children import last_error, python_module, quiet_domain, read_log, same_package
from da3_ros.config import RANDOM_CHECKPOINT, from_flat
from da3_ros.errors import UnavailableError

# From the node's start to its first complete answer: kernels may have to be compiled.
_READY_S = 900.0
# After the first answer the window fills and everything settles before the measurement starts.
_SETTLE_S = 2.0
# After the last image, answers that are still on their way.
_LAST_ANSWERS_S = 1.0
_BASE_FRAME = "base_link"


@dataclass(frozen=True)
class RosSettings:
    """One bring-up with synthetic cameras. ``size_hw``: of their images; ``parameters``: further ones of the node."""

    variant: str
    cameras: int
    size_hw: tuple[int, int]
    sets: int
    process_res: int
    device: str
    dtype: str
    reliability: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    network: bool = True  # False: the node answers at once, without computing

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return tuple(f"camera{index}" for index in range(self.cameras))

    def node_parameters(self) -> dict[str, Any]:
        """All parameters of the node; raises ConfigError when they do not go together."""
        values: dict[str, Any] = {
            "cameras": list(self.names),
            "model.variant": self.variant,
            "model.checkpoint": RANDOM_CHECKPOINT,
            "model.device": self.device,
            "model.dtype": self.dtype,
            "model.process_res": self.process_res,
            "window.sets": self.sets,
            "frames.base": _BASE_FRAME,
            **self.parameters,
        }
        from_flat(values)
        if self.reliability == "reliable":
            topics = [f"/{name}/{topic}" for name in self.names for topic in ("image_raw", "camera_info")]
            values |= {f"qos_overrides.{topic}.subscription.reliability": "reliable" for topic in topics}
        return values


@dataclass(frozen=True)
class Trial:
    """Figures at one rate, CPU seconds per second of the node and of all cameras, and what the node reported."""

    rate_hz: float
    figures: Figures
    node_cpu: float
    cameras_cpu: float
    report: Mapping[str, Mapping[str, str]]


class RosBench:
    """A node that runs, to be measured with ``trial`` at any rate.

    Raises UnavailableError, with what the node last said, when it does not start or ends early.
    """

    def __init__(self, settings: RosSettings, node: subprocess.Popen, environment: Mapping[str, str], logs: Path):
        self._settings = settings
        self._node = node
        self._environment = dict(environment)
        self._logs = logs

    @classmethod
    @contextmanager
    def started(cls, settings: RosSettings, logs: Path) -> Iterator[RosBench]:
        """Start the node; it is ended with the block, and has to end cleanly."""
        (process,) = bringup(None, overrides=settings.node_parameters())
        environment = {**quiet_domain(), **same_package(), **process.environment}
        command = process.command()
        if not settings.network:
            command = [*python_module("da3_ros.ros.idle_node"), *command[command.index("--ros-args") :]]
        with background(command, environment, logs / "node.log") as node:
            yield cls(settings, node, environment, logs)
            code = end(node)
        if code != 0:
            raise UnavailableError(f"the node ended with code {code}: {last_error(logs / 'node.log')}")

    def trial(self, rate_hz: float, seconds: float) -> Trial:
        """Have every camera send at ``rate_hz``, and once the node answers measure for ``seconds``."""
        with ExitStack() as stack:
            meter = self._child(stack, "meter", "da3_ros.ros.answer_meter", "--node", "da3_node")
            width, height = self._settings.size_hw[::-1]
            count, reliability = self._settings.cameras, self._settings.reliability
            options = ["--size", width, height, "--rate", rate_hz, "--base", _BASE_FRAME, "--reliability", reliability]
            cameras = {
                name: self._child(stack, name, "da3_ros.ros.camera_source", name, *options, "--place", index, count)
                for index, name in enumerate(self._settings.names)
            }
            children = {"meter": meter, **cameras}
            if not self._wait(_READY_S, children, lambda: "answering" in read_log(self._logs / "meter.log")):
                said = last_error(self._logs / "node.log")
                raise UnavailableError(f"the node has not answered on all of its topics in {_READY_S:g} s: {said}")
            # The window has to be full of this trial's images.
            self._wait(_SETTLE_S + self._settings.sets / rate_hz, children)
            first_ns, before = time.time_ns(), self._cpu_seconds(cameras)
            self._wait(seconds, children)
            last_ns, after = time.time_ns(), self._cpu_seconds(cameras)
            time.sleep(_LAST_ANSWERS_S + 2 / rate_hz)
            sent = {name: Sent(**self._result(name, child)) for name, child in cameras.items()}
            heard = self._result("meter", meter)
        answers = Answers(
            heard["topics"],
            {int(stamp): tuple(times) for stamp, times in heard["answers"].items()},
            heard["diagnostics"],
        )
        lasted = (last_ns - first_ns) / 1e9
        node_cpu, cameras_cpu = ((end - begin) / lasted for begin, end in zip(before, after, strict=True))
        return Trial(rate_hz, evaluate(sent, answers, first_ns, last_ns), node_cpu, cameras_cpu, answers.diagnostics)

    def _child(self, stack: ExitStack, name: str, module: str, *arguments: object) -> subprocess.Popen:
        command = [*python_module(module), *map(str, arguments)]
        return stack.enter_context(background(command, self._environment, self._logs / f"{name}.log"))

    def _wait(
        self, seconds: float, children: Mapping[str, subprocess.Popen], done: Callable[[], bool] = lambda: False
    ) -> bool:
        """False when ``done`` does not come within ``seconds``; raises UnavailableError when a process ends."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            for name, child in {"node": self._node, **children}.items():
                if child.poll() is not None:
                    said = last_error(self._logs / f"{name}.log")
                    raise UnavailableError(f"the {name} process ended with code {child.returncode}: {said}")
            time.sleep(0.02)
        return True

    def _result(self, name: str, child: subprocess.Popen) -> dict[str, Any]:
        """The line of JSON that a child prints when it is told to end."""
        code = end(child)
        log = self._logs / f"{name}.log"
        lines = [line for line in read_log(log).splitlines() if line.startswith("{")]
        if code != 0 or not lines:
            raise UnavailableError(f"the {name} process ended with code {code}: {last_error(log)}")
        return json.loads(lines[-1])

    def _cpu_seconds(self, cameras: Mapping[str, subprocess.Popen]) -> tuple[float, float]:
        """CPU seconds so far of the node, and of all cameras together."""
        return cpu_seconds(self._node.pid), sum(cpu_seconds(child.pid) for child in cameras.values())


def cpu_seconds(pid: int) -> float:
    """CPU time that a running process has used in all of its threads (user and system).

    Raises UnavailableError where there is no /proc, which only Linux has.
    """
    try:
        # The second field, the name in parentheses, may hold spaces; fields 14 and 15 are utime and stime.
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError as error:
        raise UnavailableError(f"the CPU time of process {pid} cannot be read ({error}): this needs Linux") from error
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
