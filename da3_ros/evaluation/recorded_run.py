"""How a node ran, from what of its topics was recorded: rate, latency of each stage, images that it did not use."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from da3_ros.replay.estimates import resolve

DIAGNOSTICS = "/diagnostics"
_P50, _P95 = " p50 (ms)", " p95 (ms)"
_DROPPED = "dropped: "


class RecordedRun:
    """Is given the recorded messages of the ``topics`` of a node in ``namespace``, one after the other.

    Without a report of the node on /diagnostics nothing is known (``reported``): in what ``da3-ros replay`` writes the
    times of recording are those of the pictures.
    """

    def __init__(self, cameras: Sequence[str], namespace: str = ""):
        self._cameras, self._window = cameras, resolve("window", namespace)
        infos = (resolve(f"{name}/depth/camera_info", namespace) for name in cameras)
        self.topics = {DIAGNOSTICS, self._window, *infos}
        self._times: dict[str, list[int]] = defaultdict(list)
        self._statuses: dict[str, dict[str, str]] = {}

    def take(self, topic: str, receive_ns: int, message: Any) -> None:
        """The next message that was recorded; those of other topics do not matter."""
        if topic in self.topics and topic != DIAGNOSTICS:
            self._times[topic].append(receive_ns)
        for status in message.status if topic == DIAGNOSTICS else ():
            values = {item.key: item.value for item in status.values}
            name = status.name.partition(": ")[2]
            if name != "pipeline" or "model variant" in values:  # other programs may have a pipeline too
                self._statuses[name] = values

    @property
    def reported(self) -> bool:
        """Whether the node has told of its run."""
        return "pipeline" in self._statuses

    @property
    def has_windows(self) -> bool:
        """Whether it published any: a network without poses does not."""
        return bool(self._times[self._window])

    @property
    def estimates(self) -> int:
        """Windows, or of a network without poses the depth images of its busiest camera."""
        return len(self._answers)

    @property
    def rate_hz(self) -> float | None:
        """Estimates a second, by the time of recording; None where there are not two."""
        seconds = (self._answers[-1] - self._answers[0]) / 1e9 if self._answers else 0.0
        return (len(self._answers) - 1) / seconds if seconds > 0 else None

    @property
    def latency_ms(self) -> dict[str, tuple[float, float]]:
        """p50 and p95 by stage, as the node's last report has them, in its order."""
        values = self.status("pipeline")
        stages = [key.removesuffix(_P50) for key in values if key.endswith(_P50)]
        return {stage: (float(values[stage + _P50]), float(values[stage + _P95])) for stage in stages}

    def status(self, name: str) -> Mapping[str, str]:
        """The last values about ``name``, such as "pipeline" or "camera front"."""
        return self._statuses.get(name, {})

    def dropped(self, camera: str) -> dict[str, int]:
        """How many images of ``camera`` the node did not use, by reason."""
        values = self.status(f"camera {camera}")
        counts = {key.removeprefix(_DROPPED): int(value) for key, value in values.items() if key.startswith(_DROPPED)}
        return {reason: count for reason, count in counts.items() if count}

    def summary(self) -> dict[str, Any]:
        """As in metrics.json; empty where nothing is known."""
        if not self.reported:
            return {}
        dropped = {f"{camera}: {reason}": n for camera in self._cameras for reason, n in self.dropped(camera).items()}
        return {
            "rate_hz": self.rate_hz,
            "latency_ms": {stage: {"p50": p50, "p95": p95} for stage, (p50, p95) in self.latency_ms.items()},
            "dropped": dict(sorted(dropped.items())),
        }

    @property
    def _answers(self) -> list[int]:
        return self._times[self._window] or max(self._times.values(), key=len, default=[])
