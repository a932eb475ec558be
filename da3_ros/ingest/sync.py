"""Which images of several cameras belong together: approximate matching of integer stamps.

Decisions follow from the cameras' stamps alone, so the order in which cameras' messages arrive does not
change the sets. The host clock (``now_ns``) decides only when a camera has been waited for long enough.
"""

from __future__ import annotations

import itertools
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from da3_ros.errors import InputError
from da3_ros.ingest.sync_statistics import CameraHistory, CameraStatistics, camera_statistics

_INTERVALS = 8  # recent intervals from which a camera's period is estimated


@dataclass(frozen=True)
class MatchedSet:
    """Items of one instant, at most one of each camera. ``stamp_ns``: the newest among them."""

    stamp_ns: int
    items: dict[str, Any]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class ClockJump:
    """Time went backwards by ``by_ns``, first seen at ``camera``; everything that waited was dropped."""

    camera: str
    by_ns: int


@dataclass(frozen=True)
class _Entry:
    stamp_ns: int
    item: Any
    arrival_ns: int  # on the synchronizer's clock of waiting
    period_ns: int | None  # of its camera as of this entry; None for the first


class FrameSynchronizer:
    """Collects items of ``cameras`` into sets whose stamps differ by at most ``slop_ns``. Not thread-safe.

    A set is complete as soon as every camera that is waited for has an item that fits and is not about to
    send one that fits better. No item is used twice, and the stamps of the sets strictly increase. An item is
    dropped (``unmatched``) once the camera with the newest items has none that could still fit: with cameras
    at 30 and 15 Hz there are sets at 15 Hz, each of all cameras.

    A camera is given up once items of others have waited for it for ``timeout_ns`` and nothing of it has come;
    sets then lack it, without further waiting, until its next item. That nobody sends anything is no reason to
    give a camera up, so cameras may be slower than the timeout. A camera is also put aside once its newest
    stamps have been further than the timeout from those of most cameras for that long (an unsynchronized clock;
    of two cameras the one that is behind), until they are near again. There are no sets of fewer than
    ``min_cameras``.

    Call ``add`` or ``poll`` at least every half ``timeout_ns``: of a longer gap only so much counts as waiting,
    for the caller was held up, and what the cameras sent meanwhile is still to come.

    An item older than its camera's last one is dropped (``backward``); when it is older by more than
    ``timeout_ns``, the clock has jumped: everything is forgotten and ``take_reset`` tells so once. The same
    happens when only cameras that are that much behind the last set are left. At most
    ``queue`` items of a camera wait; the oldest is dropped (``queue``).
    """

    def __init__(self, cameras: Sequence[str], slop_ns: int, queue: int, timeout_ns: int, min_cameras: int):
        if not cameras or len(set(cameras)) != len(cameras):
            raise InputError(f"cameras are {list(cameras)}: name at least one, each once")
        if slop_ns < 0 or queue < 1 or timeout_ns < 1 or not 1 <= min_cameras <= len(cameras):
            raise InputError(
                f"slop_ns={slop_ns}, queue={queue}, timeout_ns={timeout_ns}, min_cameras={min_cameras} do not fit "
                f"{len(cameras)} cameras: wanted slop_ns >= 0, queue >= 1, timeout_ns >= 1, 1 <= min_cameras <= cameras"
            )
        self._cameras = tuple(cameras)
        self._slop_ns = slop_ns
        self._queue = queue
        self._timeout_ns = timeout_ns
        self._min_cameras = min_cameras
        self._waiting: dict[str, deque[_Entry]] = {camera: deque() for camera in self._cameras}
        self._history = {camera: CameraHistory() for camera in self._cameras}
        self._jump: ClockJump | None = None
        self._now_ns = 0
        self._clock_ns = 0  # host time that counts as waiting
        self._running = False  # the host clock is known since the first call
        self._forget()

    def add(self, camera: str, stamp_ns: int, item: Any, now_ns: int) -> list[MatchedSet]:
        """Take ``item`` of ``camera``, taken at ``stamp_ns`` and arrived at ``now_ns``; return the sets it completes.

        Raises InputError for a camera that is not one of ``cameras``.
        """
        if camera not in self._waiting:
            raise InputError(f"camera '{camera}' is not synchronized, only {', '.join(self._cameras)}")
        self._advance(now_ns)
        history = self._history[camera]
        history.received += 1
        history.last_arrival_ns = now_ns
        if not self._accept(camera, stamp_ns):
            return []
        history.add_stamp(stamp_ns, self._step_limit_ns(history))
        self._accepted_ns[camera] = self._clock_ns
        self._blocking_since_ns.pop(camera, None)
        self._gone.discard(camera)
        waiting = self._waiting[camera]
        waiting.append(_Entry(stamp_ns, item, self._clock_ns, history.period_ns(_INTERVALS)))
        sets = self._match()
        for _ in sets:
            history.completed_sets += 1
        while len(waiting) > self._queue:
            self._drop(camera, "queue")
        return sets

    def poll(self, now_ns: int) -> list[MatchedSet]:
        """Sets that are complete at ``now_ns`` because a camera is no longer waited for."""
        self._advance(now_ns)
        return self._match()

    def reset(self) -> None:
        """Drop everything that waits, as for a new recording; the statistics go on."""
        for camera, waiting in self._waiting.items():
            while waiting:
                self._drop(camera, "reset")
        self._forget()

    def take_reset(self) -> ClockJump | None:
        """The backward clock jump since the last call, if there was one."""
        jump, self._jump = self._jump, None
        return jump

    def statistics(self) -> dict[str, CameraStatistics]:
        """What each camera has sent and what became of it, as of the last ``add`` or ``poll``."""
        return {
            camera: camera_statistics(
                camera,
                self._history,
                self._now_ns,
                self._timeout_ns,
                given_up=camera in self._gone,
                other_clock=camera in self._aside,
            )
            for camera in self._cameras
        }

    def _forget(self) -> None:
        self._started_ns = self._now_ns
        self._last_set_ns: int | None = None
        # Cameras that have not jumped yet after a clock jump, with their last stamp before it.
        self._before_jump: dict[str, int] = {}
        # On the clock of waiting: last item of each camera, and since when each camera holds up the others.
        self._accepted_ns: dict[str, int] = {}
        self._blocking_since_ns: dict[str, int] = {}
        self._gone: set[str] = set()
        self._astray_since_ns: dict[str, int] = {}  # since when a camera's stamps are far from the others'
        self._aside: set[str] = set()
        for history in self._history.values():
            history.forget_stamps()

    def _advance(self, now_ns: int) -> None:
        """Move the host clock. Simulated time may jump back: what has arrived before has then arrived just now."""
        if not self._running:
            self._running = True
            self._started_ns = self._now_ns = now_ns
        elif now_ns < self._now_ns - self._timeout_ns:
            self._started_ns = now_ns
            for history in self._history.values():
                if history.last_arrival_ns is not None:
                    history.last_arrival_ns = now_ns
        else:
            now_ns = max(now_ns, self._now_ns)
        self._clock_ns += min(max(now_ns - self._now_ns, 0), (self._timeout_ns + 1) // 2)
        self._now_ns = now_ns

    def _accept(self, camera: str, stamp_ns: int) -> bool:
        """Whether an item is to be queued; notices clock jumps."""
        history = self._history[camera]
        if camera in self._before_jump:
            # Another camera has shown that time went back; what this one sent before is still on its way.
            still_old = stamp_ns >= self._before_jump[camera] - self._timeout_ns
            if still_old and self._now_ns - self._started_ns <= self._timeout_ns:
                history.count_drop("backward")
                return False
            del self._before_jump[camera]
        last_ns = history.last_stamp_ns
        if last_ns is None or stamp_ns > last_ns:
            return True
        if stamp_ns >= last_ns - self._timeout_ns:
            history.count_drop("duplicate" if stamp_ns == last_ns else "backward")
            return False
        self._jumped(camera, last_ns - stamp_ns)
        return True

    def _jumped(self, camera: str, by_ns: int) -> None:
        before = {name: history.last_stamp_ns for name, history in self._history.items() if name != camera}
        self.reset()
        self._before_jump = {name: stamp for name, stamp in before.items() if stamp is not None}
        self._jump = self._jump or ClockJump(camera, by_ns)

    def _drop(self, camera: str, reason: str) -> None:
        self._waiting[camera].popleft()
        self._history[camera].count_drop(reason)

    def _step_limit_ns(self, history: CameraHistory) -> int:
        """By how much stamps may run ahead of the host clock from one item to the next without a clock step."""
        return self._timeout_ns + self._slop_ns + _INTERVALS * (history.period_ns(_INTERVALS) or 0)

    def _put_aside(self) -> None:
        """Find the cameras with another clock, and drop what they have sent, which can fit nothing."""
        newest_ns = {}
        for camera, accepted_ns in self._accepted_ns.items():
            stamp_ns, period_ns = self._history[camera].last_stamp_ns, self._history[camera].period_ns(_INTERVALS)
            silent = self._clock_ns - accepted_ns > max(self._timeout_ns, 2 * (period_ns or 0))
            if stamp_ns is not None and not silent and camera not in self._gone:
                newest_ns[camera] = stamp_ns
        middle_ns = statistics.median_high(newest_ns.values()) if newest_ns else 0
        astray = {c for c, ns in newest_ns.items() if abs(ns - middle_ns) > self._timeout_ns + self._slop_ns}
        # Not at once: when all cameras pause or step together, one of them is always the first to go on.
        self._astray_since_ns = {c: self._astray_since_ns.get(c, self._clock_ns) for c in astray}
        self._aside = {c for c, ns in self._astray_since_ns.items() if self._clock_ns - ns > self._timeout_ns}
        for camera in self._aside:
            while self._waiting[camera]:
                self._drop(camera, "unmatched")

    def _match(self) -> list[MatchedSet]:
        """All sets that are certain now, oldest first."""
        sets: list[MatchedSet] = []
        self._put_aside()
        while True:
            heads = {camera: waiting[0] for camera, waiting in self._waiting.items() if waiting}
            awaited = set(self._cameras) - self._gone - self._aside
            if not heads or not awaited <= heads.keys():
                if self._give_up(awaited - heads.keys(), heads):
                    continue
                return sets
            if len(heads) < self._min_cameras:
                return sets
            # Every further set is as new as the pivot, the newest head, since each camera's stamps increase.
            pivot_ns = max(entry.stamp_ns for entry in heads.values())
            if self._last_set_ns is not None and self._last_set_ns - pivot_ns > self._timeout_ns + self._slop_ns:
                self._jumped(max(heads, key=lambda camera: heads[camera].stamp_ns), self._last_set_ns - pivot_ns)
                return sets
            hopeless = self._hopeless(heads, pivot_ns)
            if hopeless is not None:
                self._drop(hopeless, "unmatched")
                continue
            doubtful = [camera for camera, head in heads.items() if _next_may_be_nearer(head, pivot_ns)]
            blocking = {camera for camera in doubtful if camera in awaited and len(self._waiting[camera]) == 1}
            if blocking:
                if self._give_up(blocking, heads):
                    continue
                return sets
            worse = self._worse_than_next(doubtful, pivot_ns)
            if worse is not None:
                self._drop(worse, "unmatched")
            else:
                sets.append(self._take(heads, pivot_ns))

    def _give_up(self, blocking: set[str], heads: dict[str, _Entry]) -> bool:
        """Note that ``heads`` wait for the cameras ``blocking``; whether one of those is no longer waited for."""
        if not heads:
            self._blocking_since_ns = {}
            return False
        # Kept from call to call, since what began to wait may have left the queue meanwhile.
        oldest_ns = min(head.arrival_ns for head in heads.values())
        self._blocking_since_ns = {
            camera: self._blocking_since_ns.get(camera, max(oldest_ns, self._accepted_ns.get(camera, oldest_ns)))
            for camera in blocking
        }
        gone = {c for c, since_ns in self._blocking_since_ns.items() if self._clock_ns - since_ns > self._timeout_ns}
        self._gone |= gone
        return bool(gone)

    def _hopeless(self, heads: dict[str, _Entry], pivot_ns: int) -> str | None:
        """A camera whose head can be in no further set."""
        if self._last_set_ns is not None and pivot_ns <= self._last_set_ns:
            return max(heads, key=lambda camera: heads[camera].stamp_ns)
        return next((c for c, head in heads.items() if pivot_ns - head.stamp_ns > self._slop_ns), None)

    def _worse_than_next(self, doubtful: list[str], pivot_ns: int) -> str | None:
        """A camera whose second item is nearer to the pivot than its head."""
        for camera in doubtful:
            distances = [abs(entry.stamp_ns - pivot_ns) for entry in itertools.islice(self._waiting[camera], 2)]
            if len(distances) == 2 and distances[1] < distances[0]:
                return camera
        return None

    def _take(self, heads: dict[str, _Entry], stamp_ns: int) -> MatchedSet:
        self._last_set_ns = stamp_ns
        for camera in heads:
            self._waiting[camera].popleft()
            self._history[camera].matched += 1
            self._history[camera].last_match_ns = self._now_ns
        return MatchedSet(
            stamp_ns=stamp_ns,
            items={camera: entry.item for camera, entry in heads.items()},
            missing=tuple(camera for camera in self._cameras if camera not in heads),
        )


def _next_may_be_nearer(head: _Entry, pivot_ns: int) -> bool:
    """Whether the item that follows ``head`` should be nearer to the pivot, going by its camera's period."""
    return head.period_ns is not None and pivot_ns - head.stamp_ns > head.period_ns // 2
