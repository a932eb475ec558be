"""Several recordings, or parts of one: planned, evaluated by whatever workers there are, joined to one result."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from da3_ros.errors import Da3Error
from da3_ros.evaluation.findings import merged
from da3_ros.evaluation.report_recordings import failure_text
from da3_ros.evaluation.segments import (
    FailedSegment,
    Recording,
    Segment,
    SegmentResult,
    Workers,
    join,
    plan_segments,
    run_segments,
)
from da3_ros.ingest.bag import Bag

_NS = 1_000_000_000


@dataclass(frozen=True)
class FailedRecording:
    """What of a recording could not be evaluated, and why."""

    recording: str
    segment: int
    segments: int
    attempts: int
    error: str


@dataclass
class Joined:
    """``metrics`` of all together, with each one's under ``recordings``; ``results``: of each recording that has any,
    by its name, for the report."""

    metrics: dict[str, Any]
    results: Mapping[str, SegmentResult]


def evaluate_many(
    recordings: Sequence[Recording],
    failed: Sequence[FailedRecording],
    length_s: float,
    workers: Workers,
) -> Joined:
    """Evaluate ``recordings`` in parts of ``length_s`` seconds (0: whole). ``failed``: those that could not be opened.

    Raises Da3Error where nothing at all could be evaluated.
    """
    segments: list[Segment] = []
    lost = list(failed)
    for index, recording in enumerate(recordings):
        try:
            bag = Bag(recording.paths)
            segments += plan_segments(bag, index, recording.config, recording.settings.namespace, length_s)
        except Da3Error as error:
            lost.append(FailedRecording(recording.name, 0, 1, 1, str(error)))
    retried: list[str] = []
    with tqdm(total=len(segments), unit="part", disable=not sys.stderr.isatty()) as bar:

        def told(segment: Segment, error: str, again: bool) -> None:
            attempt = FailedSegment(segment, 1, error)
            text = failure_text(asdict(_failure(recordings, attempt)))
            if again:
                retried.append(text)
            bar.write(f"{'tried again' if again else 'failed'}: {text}", file=sys.stderr)

        results, given_up = run_segments(recordings, segments, workers, lambda _: bar.update(), told)
    lost += [_failure(recordings, each) for each in given_up]
    by_recording: dict[str, SegmentResult] = {}
    counts: dict[str, int] = {}
    for index, recording in enumerate(recordings):
        parts = [results[segment] for segment in segments if segment.recording == index and segment in results]
        if parts:
            by_recording[recording.name], counts[recording.name] = join(parts), len(parts)
    if not by_recording:
        raise Da3Error("; ".join(failure_text(asdict(each)) for each in lost) or "there is nothing to evaluate")
    tolerance_ns = round(recordings[0].settings.tolerance_s * _NS)
    each = {
        name: {"segments": counts[name], **result.findings.summary(tolerance_ns)}
        for name, result in by_recording.items()
    }
    together = merged([result.findings for result in by_recording.values()]).summary(tolerance_ns)
    if len(each) > 1:  # say whose notes they are
        together |= {what: _attributed(each, what) for what in ("notes", "lost")}
        if together["trajectory"]:
            together["trajectory"]["notes"] = []
        together |= {"surface": None, "novel_views": None}  # of single recordings, and no mean of them
    metrics = {
        "bags": [recording.name for recording in recordings],
        **together,
        "recordings": each,
        "failed": [asdict(failure) for failure in lost],
        "retried": retried,
    }
    return Joined(metrics, by_recording)


def _attributed(recordings: Mapping[str, Mapping[str, Any]], what: str) -> list[str]:
    found = []
    for name, metrics in recordings.items():
        texts = [*metrics[what], *((metrics["trajectory"] or {}).get("notes", ()) if what == "notes" else ())]
        found += [f"{name}: {text}" for text in texts]
    return found


def _failure(recordings: Sequence[Recording], failed: FailedSegment) -> FailedRecording:
    segment = failed.segment
    return FailedRecording(
        recordings[segment.recording].name, segment.number, segment.count, failed.attempts, failed.error
    )
