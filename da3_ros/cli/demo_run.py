"""One run of the demo: the node, the recorder and the player as processes of their own that talk over DDS."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import da3_ros
from da3_ros.bringup import Process, bringup
from da3_ros.cli.demo_bag import BASE_FRAME, camera_info_topic, image_topic
from da3_ros.cli.demo_sequence import Sequence
from da3_ros.cli.processes import background, end
from da3_ros.config import SyncConfig, from_flat
from da3_ros.errors import UnavailableError

_OUTPUTS = ("depth/image_rect", "depth/camera_info", "confidence", "points")
_READY_S = 300.0


@dataclass(frozen=True)
class RunSettings:
    """How the node is set up and the sequence played; ``rate_hz`` 0: as fast as the node answers."""

    model: str
    checkpoint: str
    process_res: int
    window_sets: int
    device: str
    transport: str
    rate_hz: float
    reliability: str

    def parameters(self, sequence: Sequence) -> dict[str, Any]:
        """Parameters of the node for ``sequence``."""
        values: dict[str, Any] = {
            "cameras": [camera.name for camera in sequence.cameras],
            "model.process_res": self.process_res,
            "model.device": self.device,
            "window.sets": self.window_sets,
            "frames.base": BASE_FRAME,
            "sync.slop_s": max(SyncConfig.slop_s, 1.5 * sequence.spread_s),
            # The player waits for the node, so that on a slow machine images come seldom: no camera is silent yet.
            "sync.timeout_s": 60.0,
        }
        for camera in sequence.cameras:
            values[f"camera.{camera.name}.transport"] = self.transport
            if camera.calibration is None:
                values[f"camera.{camera.name}.camera_info_topic"] = "none"
        return values

    def process(self, sequence: Sequence) -> Process:
        """The node's process."""
        (node,) = bringup(
            None,
            model=self.model,
            checkpoint=self.checkpoint,
            use_sim_time=True,
            overrides=self.parameters(sequence) | self._qos(sequence),
        )
        return node

    def _qos(self, sequence: Sequence) -> dict[str, str]:
        """Standard QoS overrides: where the player sends reliably the node listens reliably, so nothing is lost."""
        if self.reliability != "reliable":
            return {}
        topics = [image_topic(camera.name, self.transport) for camera in sequence.cameras]
        topics += [camera_info_topic(camera.name) for camera in sequence.cameras if camera.calibration is not None]
        return {f"qos_overrides.{topic}.subscription.reliability": "reliable" for topic in topics}

    def validate(self, sequence: Sequence) -> None:
        """Raise ConfigError before the long work starts rather than have the node say it afterwards."""
        values = self.parameters(sequence) | {"model.variant": self.model, "model.checkpoint": self.checkpoint}
        from_flat(values)
        self.process(sequence).command()


@dataclass(frozen=True)
class Played:
    """What the player sent: number of sets and messages by topic."""

    steps: int
    messages: dict[str, int]


def run_node(sequence: Sequence, settings: RunSettings, bag: Path, recording: Path, logs: Path) -> Played:
    """Play ``bag`` to a node and record what it publishes into the new bag ``recording``.

    Raises UnavailableError, with what the node last said, when it does not start, ends early or hears nothing.
    """
    process = settings.process(sequence)
    environment = {**_quiet_domain(), **_same_package(), **process.environment}
    with background(process.command(), environment, logs / "node.log") as node:
        with _recorder(sequence, recording, environment, logs) as recorder:
            _wait(lambda: "recording" in _read(logs / "recorder.log"), node, recorder, logs)
            output = _play(sequence, settings, bag, environment, node, logs)
        code = end(node)
    if code != 0:
        raise UnavailableError(f"the node ended with code {code}: {_last_error(logs / 'node.log')}")
    return Played(output["steps"], output["messages"])


def _recorded(sequence: Sequence) -> list[str]:
    """Topics of each camera that the node is to publish."""
    return [f"/{camera.name}/{output}" for camera in sequence.cameras for output in _OUTPUTS]


def _recorder(sequence: Sequence, recording: Path, environment: dict[str, str], logs: Path):
    expected = _recorded(sequence)
    expected += ["/points", "/window", "/path", "/diagnostics"]
    command = [
        *_module("da3_ros.ros.record"), str(recording), "--node", "da3_node", "--expect", *expected,
    ]  # fmt: skip
    return background(command, environment, logs / "recorder.log")


def _play(
    sequence: Sequence, settings: RunSettings, bag: Path, environment: dict[str, str], node: subprocess.Popen,
    logs: Path,
) -> dict[str, Any]:  # fmt: skip
    topics = [image_topic(camera.name, settings.transport) for camera in sequence.cameras]
    topics += [camera_info_topic(camera.name) for camera in sequence.cameras if camera.calibration is not None]
    command = [
        *_module("da3_ros.ros.play"), str(bag), "--rate", str(settings.rate_hz), "--reliability", settings.reliability,
        "--wait-for", *topics, "--wait-heard", *_recorded(sequence),
    ]  # fmt: skip
    # The player's progress bar goes to our own terminal.
    player = subprocess.Popen(
        command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        while player.poll() is None:
            if node.poll() is not None:
                raise UnavailableError(f"the node ended with code {node.returncode}: {_last_error(logs / 'node.log')}")
            time.sleep(0.05)
        assert player.stdout is not None
        said = player.stdout.read().splitlines()
        answer = json.loads(said[-1]) if said else {"error": f"the player ended with code {player.returncode}"}
        if "error" in answer:
            raise UnavailableError(f"{answer['error']}; the node last said: {_last_error(logs / 'node.log')}")
        return answer
    finally:
        end(player)
        if player.stdout is not None:
            player.stdout.close()


def _wait(ready: Callable[[], bool], node: subprocess.Popen, recorder: subprocess.Popen, logs: Path) -> None:
    """Until the recorder hears all topics of the node; raises UnavailableError when that will not happen."""
    deadline = time.monotonic() + _READY_S
    while not ready():
        if node.poll() is not None:
            raise UnavailableError(f"the node did not start: {_last_error(logs / 'node.log')}")
        if recorder.poll() is not None:
            raise UnavailableError(f"the recorder did not start: {_last_error(logs / 'recorder.log')}")
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"the node's topics did not appear within {_READY_S:g} s: {_last_error(logs / 'node.log')}"
            )
        time.sleep(0.05)


def _module(name: str) -> list[str]:
    return [sys.executable, "-m", name]


def _same_package() -> dict[str, str]:
    """Have children import this very package, wherever it was found, and not one of the current folder."""
    root = str(Path(da3_ros.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def _quiet_domain() -> dict[str, str]:
    """Keep the demo's /clock and /tf away from robots on this network, unless the user chose where to be heard.

    Processes of one machine also find each other more surely when they are told to look there alone.
    """
    chosen = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": str(_free_domain())}
    return {name: value for name, value in chosen.items() if name not in os.environ}


def _free_domain() -> int:
    """A domain from 1 to 100 in which nobody on this machine listens, as far as can be seen."""
    first = os.getpid() % 100
    return next((1 + (first + i) % 100 for i in range(100) if not _domain_in_use(1 + (first + i) % 100)), 1 + first)


def _domain_in_use(domain: int) -> bool:
    """Whether one of the first participants' ports of ``domain`` is taken (RTPS 2.5, 9.6.2.3)."""
    for participant in range(4):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7410 + 250 * domain + 2 * participant))
            except OSError:
                return True
    return False


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _last_error(log: Path) -> str:
    """The last line that says what went wrong, without time and logger name."""
    lines = [line.strip() for line in _read(log).splitlines() if line.strip()]
    errors = [line for line in lines if "[ERROR]" in line or "[FATAL]" in line] or lines or ["(nothing)"]
    return re.sub(r"^\[\w+\] \[[\d.]+\] \[[\w.]+\]: ", "", errors[-1])
