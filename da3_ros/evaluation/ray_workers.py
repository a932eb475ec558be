"""Parts of recordings evaluated by the actors of a Ray cluster (https://docs.ray.io), one network on each GPU.

Ray is optional: ``pip install ray``. The machines of a cluster need da3_ros and the recordings' files under
the same paths.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from da3_ros.errors import ConfigError, UnavailableError
from da3_ros.evaluation.segments import Failure, Recording, Segment, SegmentResult, SegmentWorker
from da3_ros.evaluation.settings import Span

AUTO = "auto"
_CPUS = 2  # of a worker without GPU


def load_ray() -> Any:
    """The module ray. Raises UnavailableError where it is not installed."""
    # Ray would tell its makers about every cluster.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UnavailableError(
            f"a cluster needs Ray, which cannot be imported ({error}): pip install ray"
        ) from error
    return ray


class _Actor:
    """Lives in a process of the cluster."""

    def __init__(self) -> None:
        self._worker = SegmentWorker()

    def pid(self) -> int:
        return os.getpid()

    def attempt(self, recording: Recording, span: Span) -> SegmentResult | Failure:
        return self._worker.attempt(recording, span)


class RayWorkers:
    """Workers on the cluster ``address`` (auto: the one that Ray knows of, else one made of this machine).

    ``count``: how many (0: one for each GPU; without GPUs, or with ``on_cpu``, one for every two CPUs). Use it in a
    with statement. Raises UnavailableError without Ray or cluster, ConfigError where the cluster has too few GPUs or
    CPUs for ``count``.
    """

    def __init__(self, address: str, count: int = 0, on_cpu: bool = False):
        self._ray = load_ray()
        self._own = not self._ray.is_initialized()
        if self._own:
            try:
                self._ray.init(address=None if address == AUTO else address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise UnavailableError(f"no Ray cluster at '{address}': {' '.join(str(error).split())}") from error
        there = self._ray.cluster_resources()
        gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
        self._gpus = 0 if on_cpu else min(gpus, 1)
        self._cpus = 1 if self._gpus else min(_CPUS, max(1, cpus))
        most = gpus if self._gpus else max(1, cpus)
        self.count = count or (gpus if self._gpus else max(1, cpus // self._cpus))
        if self.count > most:
            self.close()
            kind = "GPUs" if self._gpus else "CPUs"
            raise ConfigError(f"{self.count} workers are asked for, but the cluster has {most} {kind}")
        if not self._gpus:
            self._cpus = max(1, min(self._cpus, cpus // self.count))
        self._actors = [self._make() for _ in range(self.count)]
        self._running: dict[Any, int] = {}

    def __enter__(self) -> RayWorkers:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the workers, and the cluster if it was made for them."""
        for actor in getattr(self, "_actors", ()):
            self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()

    def start(self, worker: int, recording: Recording, segment: Segment) -> None:
        """As Workers.start."""
        self._running[self._actors[worker].attempt.remote(recording, segment.span)] = worker

    def wait(self) -> tuple[int, SegmentResult | Failure]:
        """As Workers.wait."""
        (ready, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        worker = self._running.pop(ready)
        try:
            outcome = self._ray.get(ready)
            if isinstance(outcome, Failure):  # a file that is missing there may be on another machine
                outcome = replace(outcome, final=False)
            return worker, outcome
        except self._ray.exceptions.RayActorError as error:
            # Killed, out of memory, or its machine is gone.
            self._actors[worker] = self._make()
            return worker, Failure(f"the worker died: {str(error).splitlines()[0]}", final=False)
        except self._ray.exceptions.RayError as error:
            return worker, Failure(" ".join(str(error).split()), final=False)

    def _make(self) -> Any:
        return self._ray.remote(num_gpus=self._gpus, num_cpus=self._cpus)(_Actor).remote()
