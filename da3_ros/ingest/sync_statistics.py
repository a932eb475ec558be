"""What a synchronizer knows of each camera, so that silence and skew can explain themselves."""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

_STAMPS = 32  # recent stamps kept for rate and skew


@dataclass(frozen=True)
class CameraStatistics:
    """One camera as of now. Counts are since the start, rate and skew of the most recent images.

    ``dropped``: reason -> count; ``queue`` (others too slow or silent), ``unmatched`` (no image of the others
    fits), ``backward`` (older than the one before), ``duplicate`` (same stamp again), ``reset``. ``age_ns``:
    since the last arrival. ``delay_ns``: median of arrival minus stamp. ``skew_ns``: how much later its
    stamps are than the nearest ones of the other cameras (median); ``completed_sets``: how often it was the
    one that the others waited for. ``match_age_ns``: since one of its images last went into a set.

    ``alive``: it sends; the others have not waited for it in vain for the timeout, and its last image is not
    older than the timeout or two of its periods. ``other_clock``: it is put aside because its stamps are far
    from those of most cameras. None: not known yet.
    """

    received: int
    matched: int
    dropped: Mapping[str, int]
    completed_sets: int
    last_stamp_ns: int | None
    last_arrival_ns: int | None
    age_ns: int | None
    rate_hz: float | None
    delay_ns: int | None
    skew_ns: int | None
    match_age_ns: int | None
    alive: bool
    other_clock: bool


class CameraHistory:
    """Counters and recent stamps of one camera."""

    def __init__(self) -> None:
        self.received = 0
        self.matched = 0
        self.completed_sets = 0
        self.dropped: Counter[str] = Counter()
        self.last_arrival_ns: int | None = None
        self.last_match_ns: int | None = None
        self._last_accepted_ns: int | None = None  # arrival of the newest stamp
        self._stamps: deque[int] = deque(maxlen=_STAMPS)
        self._delays: deque[int] = deque(maxlen=_STAMPS)

    @property
    def last_stamp_ns(self) -> int | None:
        """The newest stamp since the last clock jump."""
        return self._stamps[-1] if self._stamps else None

    @property
    def stamps(self) -> list[int]:
        """Recent stamps, oldest first."""
        return list(self._stamps)

    def add_stamp(self, stamp_ns: int, step_limit_ns: int) -> None:
        """Remember an accepted stamp, which is newer than the last one and has arrived at ``last_arrival_ns``.

        When stamps have run ahead of arrivals by more than ``step_limit_ns`` since the last one, the camera's clock
        was set: what was measured before is forgotten.
        """
        arrival_ns, before_ns = self.last_arrival_ns, self._last_accepted_ns
        if arrival_ns is not None:
            if self._stamps and before_ns is not None:
                ahead_ns = stamp_ns - self._stamps[-1] - (arrival_ns - before_ns)
                if ahead_ns > step_limit_ns:
                    self.forget_stamps()
            self._delays.append(arrival_ns - stamp_ns)
        self._stamps.append(stamp_ns)
        self._last_accepted_ns = arrival_ns

    def forget_stamps(self) -> None:
        """Forget what is not true any more after a clock jump; counters stay."""
        self._stamps.clear()
        self._delays.clear()

    def count_drop(self, reason: str) -> None:
        """Count one dropped image."""
        self.dropped[reason] += 1

    def period_ns(self, intervals: int) -> int | None:
        """Median of the last ``intervals`` intervals between stamps; None before the second stamp."""
        stamps = self.stamps[-intervals - 1 :]
        if len(stamps) < 2:
            return None
        return statistics.median_low(b - a for a, b in itertools.pairwise(stamps))

    def rate_hz(self) -> float | None:
        """Images per second of stamp time."""
        if len(self._stamps) < 2:
            return None
        return (len(self._stamps) - 1) * 1e9 / (self._stamps[-1] - self._stamps[0])

    def delay_ns(self) -> int | None:
        """Median time between stamp and arrival."""
        return statistics.median_low(self._delays) if self._delays else None


def camera_statistics(
    camera: str,
    history: Mapping[str, CameraHistory],
    now_ns: int,
    timeout_ns: int,
    *,
    given_up: bool,
    other_clock: bool,
) -> CameraStatistics:
    """The figures of ``camera`` among all cameras in ``history``."""
    own = history[camera]
    age_ns = None if own.last_arrival_ns is None else now_ns - own.last_arrival_ns
    longest_ns = max(timeout_ns, 2 * (own.period_ns(_STAMPS) or 0))
    skews = [_skew_ns(own.stamps, other.stamps) for name, other in history.items() if name != camera]
    known = [skew for skew in skews if skew is not None]
    return CameraStatistics(
        received=own.received,
        matched=own.matched,
        dropped=dict(own.dropped),
        completed_sets=own.completed_sets,
        last_stamp_ns=own.last_stamp_ns,
        last_arrival_ns=own.last_arrival_ns,
        age_ns=age_ns,
        rate_hz=own.rate_hz(),
        delay_ns=own.delay_ns(),
        skew_ns=statistics.median_low(known) if known else None,
        match_age_ns=None if own.last_match_ns is None else max(now_ns - own.last_match_ns, 0),
        alive=age_ns is not None and age_ns <= longest_ns and not given_up,
        other_clock=other_clock,
    )


def _skew_ns(own: list[int], other: list[int]) -> int | None:
    """Median of own minus other over the stamps that are each other's nearest."""
    if not own or not other:
        return None
    pairs = [(stamp, _nearest(stamp, other)) for stamp in own]
    return statistics.median_low(a - b for a, b in pairs if _nearest(b, own) == a)


def _nearest(stamp: int, stamps: list[int]) -> int:
    """The value of the sorted ``stamps`` nearest to ``stamp``."""
    i = bisect.bisect_left(stamps, stamp)
    return min(stamps[max(i - 1, 0) : i + 1], key=lambda value: abs(value - stamp))
