"""The arithmetic of ``da3-ros bench --ros``: what was sent, what was answered and when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

_NS = 1_000_000_000


@dataclass(frozen=True)
class Sent:
    """What one camera process sent: the stamps (nanoseconds) of its images, and triggers that it missed."""

    stamps: Sequence[int]
    missed: int


@dataclass(frozen=True)
class Answers:
    """What one meter heard: the node's topics; stamp -> (number of them, last published, last received), all in
    nanoseconds since 1970; and the node's last report, status -> values."""

    topics: Sequence[str]
    times: Mapping[int, tuple[int, int, int]]
    diagnostics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the images' stamp, over all sets that were answered; NaN where none was."""

    p50: float
    p95: float
    most: float


@dataclass(frozen=True)
class Figures:
    """What became of the sets whose stamps lie in the measured time.

    A set is sent when every camera sent it, and answered when it has come back on every topic of the node.
    ``published``: until the node handed the last of these messages to the middleware; ``received``: until it had
    arrived in another process.
    """

    seconds: float
    sent: int
    incomplete: int  # stamps that some camera missed, which is this program's fault and not the node's
    answered: int
    published: Latency
    received: Latency

    @property
    def dropped(self) -> int:
        """Sets that went in and did not come out, wherever they were lost."""
        return self.sent - self.answered

    @property
    def answered_hz(self) -> float:
        """Sets answered a second."""
        return self.answered / self.seconds

    @property
    def held(self) -> bool:
        """Whether everything that was sent was answered."""
        return self.sent > 0 and self.dropped == 0


def evaluate(cameras: Mapping[str, Sent], answers: Answers, first_ns: int, last_ns: int) -> Figures:
    """Figures of the sets with first_ns <= stamp < last_ns."""
    stamps = [{stamp for stamp in sent.stamps if first_ns <= stamp < last_ns} for sent in cameras.values()]
    complete = set.intersection(*stamps)
    answered = [
        (stamp, times)
        for stamp, times in answers.times.items()
        if stamp in complete and times[0] >= len(answers.topics) > 0
    ]
    return Figures(
        seconds=(last_ns - first_ns) / _NS,
        sent=len(complete),
        incomplete=len(set.union(*stamps) - complete),
        answered=len(answered),
        published=_latency([times[1] - stamp for stamp, times in answered]),
        received=_latency([times[2] - stamp for stamp, times in answered]),
    )


def _latency(durations_ns: Sequence[int]) -> Latency:
    if not durations_ns:
        return Latency(math.nan, math.nan, math.nan)
    milliseconds = np.asarray(durations_ns, dtype=np.float64) / 1e6
    p50, p95, most = np.percentile(milliseconds, (50, 95, 100)).tolist()
    return Latency(p50, p95, most)
