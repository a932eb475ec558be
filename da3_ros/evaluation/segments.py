"""Many recordings in parts: who works on which part, what happens to parts that fail, and parts joined again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from da3_ros.config import Config
from da3_ros.errors import Da3Error, InputError
from da3_ros.evaluation.cloud_sample import CloudSample
from da3_ros.evaluation.evaluation import Evaluation, FrameWatcher
from da3_ros.evaluation.findings import Findings
from da3_ros.evaluation.novel_views import score_novel_views
from da3_ros.evaluation.report_examples import DepthExamples
from da3_ros.evaluation.rerun_file import RerunFile
from da3_ros.evaluation.settings import FOREVER_NS, EvaluationSettings, Span
from da3_ros.ingest.bag import Bag
from da3_ros.pipeline import Pipeline
from da3_ros.replay.estimates import resolve

ATTEMPTS = 3
_NS = 1_000_000_000


@dataclass(frozen=True)
class Recording:
    """One recording (``paths`` together) and how it is evaluated. ``pictured``: collect what the report shows;
    ``rerun``: the file to write for the Rerun viewer."""

    paths: tuple[Path, ...]
    config: Config
    settings: EvaluationSettings
    pictured: bool = False
    rerun: Path | None = None

    @property
    def name(self) -> str:
        """For people."""
        return " + ".join(map(str, self.paths))


@dataclass(frozen=True)
class Segment:
    """Part ``number`` of ``count`` of the recording with the index ``recording``."""

    recording: int
    number: int
    count: int
    span: Span


@dataclass
class SegmentResult:
    """What was found in a part, and what the report shows of it."""

    findings: Findings
    examples: DepthExamples | None
    cloud: CloudSample | None


@dataclass(frozen=True)
class Failure:
    """A part that could not be evaluated, in one line. ``final``: no further attempt would help."""

    error: str
    final: bool


def plan_segments(bag: Bag, recording: int, config: Config, namespace: str, length_s: float) -> list[Segment]:
    """Parts of about ``length_s`` seconds (0: one of all) of ``bag``.

    Each begins with the sets before it, which fill the window but do not count.
    """
    duration_ns = bag.end_ns - bag.start_ns
    count = max(1, round(duration_ns / (length_s * _NS))) if length_s > 0 else 1
    if count == 1:
        return [Segment(recording, 0, 1, Span())]
    images = max(bag.count([resolve(config.image_topic(camera), namespace)]) for camera in config.cameras)
    window = config.window
    # Half as much again, for recordings whose rate is not constant.
    warm_ns = round(1.5 * (window.sets + 1) * window.stride * duration_ns / max(images, 1))
    edges = [bag.start_ns + duration_ns * number // count for number in range(count)]
    starts, stops = [0, *edges[1:]], [*edges[1:], FOREVER_NS]
    return [
        Segment(recording, number, count, Span(start_ns, stop_ns, warm_ns if number else 0))
        for number, (start_ns, stop_ns) in enumerate(zip(starts, stops, strict=True))
    ]


class SegmentWorker:
    """Evaluates parts one after the other; keeps the network loaded while the configuration stays the same."""

    def __init__(self) -> None:
        self._loaded: tuple[Config, Any] | None = None

    def run(self, recording: Recording, span: Span) -> SegmentResult:
        """What is in the part ``span`` of ``recording``. Raises Da3Error for what cannot be evaluated."""
        settings = recording.settings
        examples = DepthExamples(settings.max_depth) if recording.pictured else None
        cloud = CloudSample() if recording.pictured else None
        watchers: list[FrameWatcher] = [watcher for watcher in (examples, cloud) if watcher is not None]
        bag = Bag(recording.paths)
        scene: RerunFile | None = None
        with ExitStack() as stack:
            if recording.rerun is not None:
                config = recording.config
                topics = {camera: resolve(config.image_topic(camera), settings.namespace) for camera in config.cameras}
                scene = stack.enter_context(RerunFile(recording.rerun, bag, topics))
                watchers.append(scene)
            evaluation = Evaluation(bag, recording.config, settings, watchers, span, self._pipeline, scene)
            findings = evaluation.collect()
        if settings.novel_views:
            findings.novel_views = score_novel_views(
                recording.paths, recording.config, settings.namespace, settings.novel_views
            )
        return SegmentResult(findings, examples, cloud)

    def attempt(self, recording: Recording, span: Span) -> SegmentResult | Failure:
        """The same with every error as a Failure, for a worker that must go on."""
        try:
            return self.run(recording, span)
        except Da3Error as error:
            return Failure(str(error), final=True)
        except Exception as error:  # a bug or the device's: another worker, or a fresh one, may do better
            self._loaded = None
            return Failure(f"{type(error).__name__}: {' '.join(str(error).split())}", final=False)

    def _pipeline(self, config: Config) -> Any:
        if self._loaded is not None and self._loaded[0] == config:
            pipeline = self._loaded[1]
            pipeline.reset()
            pipeline.set_rig({})
            return pipeline
        if self._loaded is not None:
            self._loaded[1].close()
            self._loaded = None  # its memory is needed for the next one
        self._loaded = config, Pipeline(config, repeatable=True)
        return self._loaded[1]


class Workers(Protocol):
    """Who evaluates parts: this process, or the actors of a Ray cluster."""

    count: int

    def start(self, worker: int, recording: Recording, segment: Segment) -> None:
        """Give ``worker``, which is idle, a part."""

    def wait(self) -> tuple[int, SegmentResult | Failure]:
        """The next worker that is done, and with what. A worker that died has been replaced."""


class LocalWorkers:
    """This process alone: one part after the other."""

    count = 1

    def __init__(self) -> None:
        self._worker = SegmentWorker()
        self._next: tuple[Recording, Span] | None = None

    def start(self, worker: int, recording: Recording, segment: Segment) -> None:
        """As Workers.start."""
        self._next = recording, segment.span

    def wait(self) -> tuple[int, SegmentResult | Failure]:
        """As Workers.wait."""
        assert self._next is not None
        return 0, self._worker.attempt(*self._next)


class SegmentQueue:
    """Parts that nobody works on yet.

    A worker goes through one recording in order, so that its file stays in the cache of one machine; once no untouched
    recording is left, it steals from the end of the one with most parts left.
    """

    def __init__(self, segments: Sequence[Segment]):
        self._left: dict[int, deque[Segment]] = {}
        for segment in segments:
            self._left.setdefault(segment.recording, deque()).append(segment)
        self._touched: set[int] = set()
        self._last: dict[int, int] = {}

    def take(self, worker: int) -> Segment | None:
        """The next part for ``worker``; None when none is left."""
        left = {recording: parts for recording, parts in self._left.items() if parts}
        if not left:
            return None
        own = self._last.get(worker)
        fresh = next((recording for recording in left if recording not in self._touched), None)
        if own in left:
            segment = left[own].popleft()
        elif fresh is not None:
            segment = left[fresh].popleft()
        else:
            segment = max(left.values(), key=len).pop()
        self._touched.add(segment.recording)
        self._last[worker] = segment.recording
        return segment

    def put_back(self, segment: Segment) -> None:
        """To be tried again, before anything else of its recording."""
        self._left[segment.recording].appendleft(segment)


@dataclass
class FailedSegment:
    """A part that failed at every one of ``attempts``."""

    segment: Segment
    attempts: int
    error: str


def run_segments(
    recordings: Sequence[Recording],
    segments: Sequence[Segment],
    workers: Workers,
    done: Callable[[Segment], None] = lambda segment: None,
    failed: Callable[[Segment, str, bool], None] = lambda segment, error, again: None,
) -> tuple[dict[Segment, SegmentResult], list[FailedSegment]]:
    """Evaluate all ``segments``: the results, and what failed for good.

    ``done`` is told every part that is finished, ``failed`` every failed attempt, and whether there will be another.
    """
    queue = SegmentQueue(segments)
    results: dict[Segment, SegmentResult] = {}
    lost: list[FailedSegment] = []
    attempts: dict[Segment, int] = {}
    busy: dict[int, Segment] = {}
    while True:
        for worker in range(workers.count):
            segment = queue.take(worker) if worker not in busy else None
            if segment is not None:
                attempts[segment] = attempts.get(segment, 0) + 1
                busy[worker] = segment
                workers.start(worker, recordings[segment.recording], segment)
        if not busy:
            return results, sorted(lost, key=lambda each: (each.segment.recording, each.segment.number))
        worker, outcome = workers.wait()
        segment = busy.pop(worker)
        if isinstance(outcome, SegmentResult):
            results[segment] = outcome
            done(segment)
            continue
        again = not outcome.final and attempts[segment] < ATTEMPTS
        failed(segment, outcome.error, again)
        if again:
            queue.put_back(segment)
        else:
            lost.append(FailedSegment(segment, attempts[segment], outcome.error))
            done(segment)


def join(results: Sequence[SegmentResult]) -> SegmentResult:
    """The parts of one recording, in order, as one; they are used up. Raises InputError without any."""
    if not results:
        raise InputError("there is nothing to join")
    first, *others = results
    for other in others:
        first.findings.merge(other.findings)
        if first.examples is not None and other.examples is not None:
            first.examples.merge(other.examples)
        if first.cloud is not None and other.cloud is not None:
            first.cloud.merge(other.cloud)
    return first
