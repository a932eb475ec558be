"""One run of the demo: the node, the recorder and the player as processes of their own that talk over DDS."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from da3_ros.bringup import Process, bringup
from da3_ros.cli.demo_bag import BASE_FRAME, camera_info_topic, image_topic
from da3_ros.cli.demo_sequence import Sequence
from da3_ros.cli.processes import background, end, start
from da3_ros.cli.ros_children import last_error, python_module, quiet_domain, read_log, same_package
from da3_ros.config import Config, ModelConfig, SyncConfig, from_flat
from da3_ros.errors import UnavailableError
from da3_ros.model.variants import VARIANTS

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
    accept_noncommercial: bool

    @property
    def network(self) -> ModelConfig:
        """What the chosen network gives: poses, sky."""
        return ModelConfig(variant=self.model)

    def parameters(self, sequence: Sequence) -> dict[str, Any]:
        """Parameters of the node for ``sequence``."""
        values: dict[str, Any] = {
            "cameras": [camera.name for camera in sequence.cameras],
            "model.process_res": self.process_res,
            "model.device": self.device,
            "model.accept_noncommercial": self.accept_noncommercial,
            "window.sets": self.window_sets,
            "frames.base": BASE_FRAME,
            "sync.slop_s": max(SyncConfig.slop_s, 1.5 * sequence.spread_s),
            # The player waits for the node, so that on a slow machine images come seldom: no camera is silent yet.
            "sync.timeout_s": 60.0,
        }
        if VARIANTS[self.model].bundled:
            # The poses of da3-nano show the rig's baselines too short by a factor: metres made of them would be a lie.
            values["scale.source"] = "none"
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

    def validate(self, sequence: Sequence) -> Config:
        """The node's configuration; raises ConfigError before the long work starts rather than by the node."""
        values = self.parameters(sequence) | {"model.variant": self.model, "model.checkpoint": self.checkpoint}
        self.process(sequence).command()
        return from_flat(values)


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
    environment = {**quiet_domain(), **same_package(), **process.environment}
    with background(process.command(), environment, logs / "node.log") as node:
        with _recorder(sequence, settings, recording, environment, logs) as recorder:
            _wait(lambda: "recording" in read_log(logs / "recorder.log"), node, recorder, logs)
            output = _play(sequence, settings, bag, environment, node, logs)
        code = end(node)
    if code != 0:
        raise UnavailableError(f"the node ended with code {code}: {last_error(logs / 'node.log')}")
    return Played(output["steps"], output["messages"])


def _recorded(sequence: Sequence, network: ModelConfig) -> list[str]:
    """Topics of each camera that the node is to publish."""
    outputs = ["depth/image_rect", "depth/camera_info", "points"]
    if network.has_poses:
        outputs.append("confidence")
    if network.has_sky:
        outputs.append("sky")
    return [f"/{camera.name}/{output}" for camera in sequence.cameras for output in outputs]


def _recorder(
    sequence: Sequence, settings: RunSettings, recording: Path, environment: dict[str, str], logs: Path
) -> AbstractContextManager[subprocess.Popen]:
    expected = [*_recorded(sequence, settings.network), "/diagnostics"]
    if settings.network.has_poses:
        expected += ["/points", "/window", "/path"]
    command = [
        *python_module("da3_ros.ros.record"), str(recording), "--node", "da3_node", "--expect", *expected,
    ]  # fmt: skip
    return background(command, environment, logs / "recorder.log")


def _play(
    sequence: Sequence, settings: RunSettings, bag: Path, environment: dict[str, str], node: subprocess.Popen,
    logs: Path,
) -> dict[str, Any]:  # fmt: skip
    topics = [image_topic(camera.name, settings.transport) for camera in sequence.cameras]
    topics += [camera_info_topic(camera.name) for camera in sequence.cameras if camera.calibration is not None]
    command = [
        *python_module("da3_ros.ros.play"), str(bag),
        "--rate", str(settings.rate_hz), "--reliability", settings.reliability,
        "--wait-for", *topics, "--wait-heard", *_recorded(sequence, settings.network),
        "--answers", *(f"/{camera.name}/depth/camera_info" for camera in sequence.cameras),
    ]  # fmt: skip
    # The player's progress bar goes to our own terminal.
    player = start(command, environment, stdout=subprocess.PIPE)
    try:
        while player.poll() is None:
            if node.poll() is not None:
                raise UnavailableError(f"the node ended with code {node.returncode}: {last_error(logs / 'node.log')}")
            time.sleep(0.05)
        assert player.stdout is not None
        said = player.stdout.read().decode(errors="replace").splitlines()
        answer = json.loads(said[-1]) if said else {"error": f"the player ended with code {player.returncode}"}
        if "error" in answer:
            raise UnavailableError(f"{answer['error']}; the node last said: {last_error(logs / 'node.log')}")
        return answer
    finally:
        end(player, number=signal.SIGTERM)  # SIGINT in the midst of its imports would print a traceback
        if player.stdout is not None:
            player.stdout.close()


def _wait(ready: Callable[[], bool], node: subprocess.Popen, recorder: subprocess.Popen, logs: Path) -> None:
    """Until the recorder hears all topics of the node; raises UnavailableError when that will not happen."""
    deadline = time.monotonic() + _READY_S
    while not ready():
        if node.poll() is not None:
            raise UnavailableError(f"the node did not start: {last_error(logs / 'node.log')}")
        if recorder.poll() is not None:
            raise UnavailableError(f"the recorder did not start: {last_error(logs / 'recorder.log')}")
        if time.monotonic() > deadline:
            raise UnavailableError(
                f"the node's topics did not appear within {_READY_S:g} s: {last_error(logs / 'node.log')}"
            )
        time.sleep(0.05)
