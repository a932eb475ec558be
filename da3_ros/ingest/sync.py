"""Which images of several cameras belong together: approximate matching of integer stamps.

Decisions follow from the cameras' stamps alone, so the order in which cameras' messages arrive does not
change the sets. The host clock (``now_ns``) decides only when a camera that has fallen silent is no longer
waited for.
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
    period_ns: int | None  # of its camera as of this entry; None for the first


class FrameSynchronizer:
    """Collects items of ``cameras`` into sets whose stamps differ by at most ``slop_ns``. Not thread-safe.

    A set is complete as soon as every camera that is waited for has an item that fits and is not about to
    send one that fits better. No item is used twice, and the stamps of the sets strictly increase. An item is
    dropped (``unmatched``) once the camera with the newest items has none that could still fit: with cameras
    at 30 and 15 Hz there are sets at 15 Hz, each of all cameras.

    A camera is not waited for while nothing of it has arrived for ``timeout_ns``, nor while its stamps are
    more than that away from those of most cameras (an unsynchronized clock); sets of the others then lack it,
    if at least ``min_cameras`` remain. It is waited for again as soon as it sends again.

    An item older than its camera's last one is dropped (``backward``); when it is older by more than
    ``timeout_ns``, the clock has jumped: everything is forgotten and ``take_reset`` tells so once. At most
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
        history.add_stamp(stamp_ns)
        waiting = self._waiting[camera]
        waiting.append(_Entry(stamp_ns, item, history.period_ns(_INTERVALS)))
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
            camera: camera_statistics(camera, self._history, self._now_ns, self._timeout_ns) for camera in self._cameras
        }

    def _forget(self) -> None:
        self._started_ns = self._now_ns
        self._last_set_ns: int | None = None
        # Cameras that have not jumped yet after a clock jump, with their last stamp before it.
        self._before_jump: dict[str, int] = {}
        for history in self._history.values():
            history.forget_stamps()

    def _advance(self, now_ns: int) -> None:
        """Move the host clock. Simulated time may jump back: what has arrived before has then arrived just now."""
        if not self._running:
            self._running = True
            self._started_ns = now_ns
        elif now_ns < self._now_ns - self._timeout_ns:
            self._started_ns = now_ns
            for history in self._history.values():
                if history.last_arrival_ns is not None:
                    history.last_arrival_ns = now_ns
        else:
            now_ns = max(now_ns, self._now_ns)
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

    def _arrives(self, camera: str) -> bool:
        """Whether something of ``camera`` has arrived within the timeout, or may still at the start."""
        last_ns = self._history[camera].last_arrival_ns
        since_ns = self._started_ns if last_ns is None else max(last_ns, self._started_ns)
        return self._now_ns - since_ns <= self._timeout_ns

    def _awaited(self) -> set[str]:
        """Cameras to wait for. Drops what cameras with another clock have sent, which can fit nothing."""
        arriving = {camera for camera in self._cameras if self._arrives(camera)}
        newest_ns = {camera: self._history[camera].last_stamp_ns for camera in arriving}
        known = {camera: stamp_ns for camera, stamp_ns in newest_ns.items() if stamp_ns is not None}
        middle_ns = statistics.median_high(known.values()) if known else 0
        for camera, stamp_ns in known.items():
            if abs(stamp_ns - middle_ns) > self._timeout_ns + self._slop_ns:
                arriving.remove(camera)
                while self._waiting[camera]:
                    self._drop(camera, "unmatched")
        return arriving

    def _match(self) -> list[MatchedSet]:
        """All sets that are certain now, oldest first."""
        sets: list[MatchedSet] = []
        awaited = self._awaited()
        while True:
            heads = {camera: waiting[0] for camera, waiting in self._waiting.items() if waiting}
            if not awaited <= heads.keys() or len(heads) < self._min_cameras:
                return sets
            # Every further set is as new as the pivot, the newest head, since each camera's stamps increase.
            pivot_ns = max(entry.stamp_ns for entry in heads.values())
            hopeless = self._hopeless(heads, pivot_ns)
            if hopeless is not None:
                self._drop(hopeless, "unmatched")
                continue
            doubtful = [camera for camera, head in heads.items() if _next_may_be_nearer(head, pivot_ns)]
            if any(camera in awaited and len(self._waiting[camera]) == 1 for camera in doubtful):
                return sets
            worse = self._worse_than_next(doubtful, pivot_ns)
            if worse is not None:
                self._drop(worse, "unmatched")
            else:
                sets.append(self._take(heads, pivot_ns))

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
        return MatchedSet(
            stamp_ns=stamp_ns,
            items={camera: entry.item for camera, entry in heads.items()},
            missing=tuple(camera for camera in self._cameras if camera not in heads),
        )


def _next_may_be_nearer(head: _Entry, pivot_ns: int) -> bool:
    """Whether the item that follows ``head`` should be nearer to the pivot, going by its camera's period."""
    return head.period_ns is not None and pivot_ns - head.stamp_ns > head.period_ns // 2
