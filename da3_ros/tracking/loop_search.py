"""Finds loops: a place that looks like an old one, one window of the network across the two, a verdict.

The window runs on a thread of its own. Its verdict enters ``delay`` steps after it was asked for; should it not be
there by then, that step waits where a recording is to give the same map each time, else the first step after it has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from da3_ros.tracking.keyframe_store import Keyframe, KeyframeStore, KeyframeView
from da3_ros.tracking.loop_closure import LoopPolicy, Place, SharedWindow, Verdict, verify
from da3_ros.tracking.places import Candidate, PlaceIndex

# Motion (see Keyframe.way) between two keyframes from which on seeing the same place again is news.
_LEAST_WAY = 3.0
# A pair of places that was refused is not asked about again this many keyframes about it.
_REFUSED_OLD, _REFUSED_NEW = 2, 4
_REMEMBERED = 50

Look = Callable[[Sequence[KeyframeView]], SharedWindow]


@dataclass(frozen=True)
class SearchSettings:
    """``min_similarity``: cosine from which on two places are looked at; ``interval``: steps from one window to the
    next at least; ``delay``: steps after which its verdict counts; ``views``: of the window; ``waits``: a step waits
    for a verdict that is due."""

    min_similarity: float
    interval: int
    delay: int
    views: int
    waits: bool = True


class LoopSearch:
    """``look`` runs the network over views of keyframes; called on the search's own thread. Not thread-safe."""

    def __init__(self, store: KeyframeStore, look: Look, settings: SearchSettings, policy: LoopPolicy):
        self._store = store
        self._look = look
        self._settings = settings
        self._policy = policy
        self._places = PlaceIndex()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loop window")
        self._asked: tuple[int, Candidate, Future[Verdict]] | None = None  # step, what, answer
        self._last_step = -settings.interval
        self._fresh: int | None = None  # newest keyframe, if it has not been looked for
        self._refused: list[tuple[int, int]] = []
        self.reasons: Counter[str] = Counter()  # why windows were refused
        self.windows = 0

    def add(self, keyframe: int, descriptors: np.ndarray) -> None:
        """A new keyframe, by the descriptors (C, D) of its views."""
        self._places.add(keyframe, descriptors)
        self._fresh = keyframe

    def remove(self, keyframe: int) -> None:
        """A keyframe that is given up."""
        self._places.remove(keyframe)

    def step(self, step: int) -> Verdict | None:
        """The verdict that is due at ``step``, if any; and another window is asked for, if it is time for one."""
        verdict = self._due(step)
        if self._asked is None and self._fresh is not None and step - self._last_step >= self._settings.interval:
            new, self._fresh = self._fresh, None
            candidate = self._candidate(new) if new in self._store else None
            if candidate is not None:
                places = self._place(candidate, new=False), self._place(candidate, new=True)
                self._asked = step, candidate, self._thread.submit(self._judge, *places)
                self._last_step = step
                self.windows += 1
        return verdict

    def close(self) -> None:
        """Wait for the window that is under way."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _due(self, step: int) -> Verdict | None:
        if self._asked is None or step - self._asked[0] < self._settings.delay:
            return None
        _, candidate, answer = self._asked
        if not (self._settings.waits or answer.done()):
            return None
        self._asked = None
        verdict = answer.result()
        if verdict.constraint is None:
            self.reasons[verdict.reason] += 1
            self._refused = [*self._refused, (candidate.old, candidate.new)][-_REMEMBERED:]
        elif candidate.old not in self._store or candidate.new not in self._store:
            return None
        return verdict

    def _candidate(self, new: int) -> Candidate | None:
        way = self._store[new].way
        refused = {old for old, then in self._refused if new - then <= _REFUSED_NEW}
        among = [
            keyframe.number
            for keyframe in self._store
            if way - keyframe.way >= _LEAST_WAY
            and keyframe.views[0].canvas_hw == self._store[new].views[0].canvas_hw
            and not any(abs(keyframe.number - old) <= _REFUSED_OLD for old in refused)
        ]
        best = self._places.best(new, among)
        return best if best is not None and best.similarity >= self._settings.min_similarity else None

    def _place(self, candidate: Candidate, new: bool) -> Place:
        """The views that stand for one end of the candidate: of the camera that looks alike, of keyframes about it."""
        number, camera = (candidate.new, candidate.new_camera) if new else (candidate.old, candidate.old_camera)
        numbers = self._store.numbers
        at = numbers.index(number)
        name = self._store[number].views[camera].camera
        half = max(1, self._settings.views // 2)
        near = [at] + [at + side * k for k in range(1, half + 1) for side in (-1, 1)]
        limit = numbers.index(candidate.new) if new else len(numbers)
        views: list[tuple[Keyframe, KeyframeView]] = []
        for index in near:
            if not 0 <= index < len(numbers) or (new and index > limit):
                continue
            keyframe = self._store[numbers[index]]
            # Far away along the way it is another place, and odometry across a jump of the scale is in two units.
            own = self._store[number]
            if abs(keyframe.way - own.way) < _LEAST_WAY / 2 and keyframe.jumps == own.jumps:
                views += [(keyframe, view) for view in keyframe.views if view.camera == name]
        return Place(self._store[number], tuple(views[:half]))

    def _judge(self, old: Place, new: Place) -> Verdict:
        window = self._look([view for place in (old, new) for _, view in place.views])
        return verify(old, new, window, self._policy)
