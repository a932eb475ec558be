"""The cloud of all keyframes, where the pose graph has them: kept up to date in pieces that fit into a step.

What later views contradict fades out. After the graph has moved a few keyframes, those are taken out and put in anew,
some at each step; after it has moved many, a second map is built beside the first one and takes its place when it is
complete. So a loop costs what it moves, and not the whole way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from da3_ros.geometry.se3 import invert
from da3_ros.tracking.dynamic import AGREES, IN_FRONT, compare_surfaces
from da3_ros.tracking.keyframe_store import Keyframe, KeyframeStore, KeyframeView
from da3_ros.tracking.loop_closure import unproject_grid
from da3_ros.tracking.similarity import transform
from da3_ros.tracking.voxel_map import VoxelMap

_REBUILT_PER_STEP = 8  # keyframes
_FEW = 0.25  # share of the keyframes up to which those that moved are put in anew, each at twice the cost
_MOST_COMPARED = 6  # pairs of views, for each new keyframe
_LEAST_ALIKE = 0.5  # cosine of the angle between the optical axes of views that are compared
_LEAST_KEPT = 0.5  # belief below which a pixel is no part of the map
_MOST_COUNTED = 250  # of uint8


class _Pair(NamedTuple):
    """A new keyframe's ``view`` and the view ``seen`` of the keyframe ``other`` that may show the same."""

    view: KeyframeView
    other: Keyframe
    seen: KeyframeView
    S_seen_view: np.ndarray


class _Layer:
    """A voxel map and the poses at which keyframes have been put into it."""

    def __init__(self, voxel: float, limit: int):
        self.voxels = VoxelMap(voxel, limit)
        self._placed: dict[int, np.ndarray] = {}  # keyframe -> S_map_odom-body then

    def __contains__(self, number: int) -> bool:
        return number in self._placed

    def pose(self, number: int) -> np.ndarray:
        return self._placed[number]

    def put(self, keyframe: Keyframe, S_map_body: np.ndarray) -> None:
        self._placed[keyframe.number] = S_map_body
        for view in keyframe.views:
            self.change(keyframe, view, _worth(view))

    def change(self, keyframe: Keyframe, view: KeyframeView, weight: np.ndarray) -> None:
        """Add ``weight`` (h, w), which may be negative, to the pixels of a view."""
        S_map_cam = self._placed[keyframe.number] @ invert(keyframe.T_odom_body) @ view.T_odom_cam
        some = weight != 0
        points = unproject_grid(view.depth.astype(np.float64), view.K)[some]
        self.voxels.add(transform(S_map_cam, points), view.colours[some], weight[some])

    def take_out(self, keyframe: Keyframe) -> None:
        for view in keyframe.views:
            self.change(keyframe, view, -_worth(view))
        del self._placed[keyframe.number]


class KeyframeMap:
    """See above. ``pose`` gives S_map_body (4, 4) of a keyframe as it is now. Not thread-safe."""

    def __init__(
        self,
        store: KeyframeStore,
        pose: Callable[[int], np.ndarray],
        voxel: float,
        limit: int,
        tolerance: float,
    ):
        self._store = store
        self._pose = pose
        self._size = voxel, limit
        self._tolerance = tolerance
        self._layer = _Layer(*self._size)
        self._next: _Layer | None = None
        self._queue: list[int] = []  # keyframes to be put in anew, into the next layer if there is one
        self._stale = False
        self._taken_out = 0  # keyframes since the last layer began, whose voxels still have slots
        self.version = 0  # counts changes

    def __len__(self) -> int:
        return len(self._layer.voxels)

    @property
    def full(self) -> bool:
        """Whether points had to be left out."""
        return self._layer.voxels.full

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(layer.voxels.nbytes for layer in self._layers())

    def snapshot(self) -> VoxelMap:
        """The map as it is now."""
        return self._layer.voxels.snapshot()

    def add(self, keyframe: Keyframe, others: Iterable[Keyframe]) -> None:
        """Put in a new keyframe, after a comparison of its surfaces with those of ``others`` that may show the same."""
        pairs = (
            _Pair(view, other, seen, self._S_cam_cam(keyframe, view, other, seen))
            for other in others
            for seen in other.views
            for view in keyframe.views
            if seen.depth.shape == view.depth.shape
        )
        alike = (pair for pair in pairs if pair.S_seen_view[2, 2] > _LEAST_ALIKE)
        self._compare(list(itertools.islice(alike, _MOST_COMPARED)))
        self._layer.put(keyframe, self._pose(keyframe.number))
        if self._next is not None:
            self._queue.append(keyframe.number)
        self.version += 1

    def remove(self, keyframe: Keyframe) -> None:
        """Take a keyframe's points out."""
        for layer in self._layers():
            if keyframe.number in layer:
                layer.take_out(keyframe)
        self._taken_out += 1
        self._queue = [number for number in self._queue if number != keyframe.number]
        self.version += 1

    def correct(self) -> None:
        """The graph has moved keyframes: put them where they are now over the next steps."""
        if self._queue:
            self._stale = True  # what is under way is finished first, or frequent loops would starve it
            return
        numbers = self._store.numbers
        moved = self._moved([number for number in numbers if number in self._layer])
        if len(moved) > _FEW * len(numbers) or self._taken_out > len(numbers):
            self._next, self._queue, self._taken_out = _Layer(*self._size), numbers, 0
        else:
            self._queue = moved

    def advance(self) -> None:
        """Some keyframes' worth of building, if there is any to do."""
        if not self._queue and self._next is None:
            return
        now, self._queue = self._queue[:_REBUILT_PER_STEP], self._queue[_REBUILT_PER_STEP:]
        for number in now:
            if self._next is None:
                self._layer.take_out(self._store[number])
                self._taken_out += 1
            (self._next or self._layer).put(self._store[number], self._pose(number))
        if not self._queue:
            self._layer, self._next = self._next or self._layer, None
            self.version += 1
            if self._stale:
                self._stale = False
                self.correct()

    def _layers(self) -> list[_Layer]:
        return [self._layer] if self._next is None else [self._layer, self._next]

    def _moved(self, numbers: Sequence[int]) -> list[int]:
        """Those of ``numbers`` whose points would move by more than half a voxel, a median depth away."""
        if not numbers:
            return []
        reach = np.array([self._store[number].median_depth for number in numbers])
        corners = np.array([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        now, then = (np.stack([pose(number) for number in numbers]) for pose in (self._pose, self._layer.pose))
        off = now - then
        apart = reach[:, None, None] * (off[:, :3, :3] @ corners) + off[:, :3, 3:]
        far = np.linalg.norm(apart, axis=1).max(1) > 0.5 * self._size[0]
        return [number for number, one in zip(numbers, far, strict=True) if one]

    def _S_cam_cam(self, keyframe: Keyframe, view: KeyframeView, other: Keyframe, seen: KeyframeView) -> np.ndarray:
        """From the camera ``view`` to the camera ``seen``, by the map."""
        S = [
            self._pose(frame.number) @ invert(frame.T_odom_body) @ one.T_odom_cam
            for frame, one in ((other, seen), (keyframe, view))
        ]
        return np.linalg.inv(S[0]) @ S[1]

    def _compare(self, pairs: Sequence[_Pair]) -> None:
        """Count what each of the two views of a pair says of the other one's surfaces; all pairs at once."""
        if not pairs:
            return
        new, old = [pair.view for pair in pairs], [pair.seen for pair in pairs]
        S = np.stack([pair.S_seen_view for pair in pairs])
        S = np.concatenate([S, np.linalg.inv(S)])
        depth = torch.from_numpy(np.stack([view.depth for view in (*new, *old)]).astype(np.float32))
        K = torch.from_numpy(np.stack([view.K for view in (*new, *old)]))
        half = len(pairs)
        says = compare_surfaces(
            depth, K, depth.roll(half, 0), K.roll(half, 0), torch.from_numpy(S), self._tolerance
        ).numpy()
        for pair, of_new, of_old in zip(pairs, says[:half], says[half:], strict=True):
            before = _worth(pair.seen)
            for view, votes in ((pair.view, of_new), (pair.seen, of_old)):
                view.against[...] = np.minimum(view.against.astype(np.int32) + (votes == IN_FRONT), _MOST_COUNTED)
                view.agreed[...] = np.minimum(view.agreed.astype(np.int32) + (votes == AGREES), _MOST_COUNTED)
            change = _worth(pair.seen) - before
            for layer in self._layers():
                if pair.other.number in layer:
                    layer.change(pair.other, pair.seen, change)


def _worth(view: KeyframeView) -> np.ndarray:
    """Weight (h, w) float32 of each pixel in the map: its confidence, less where later views contradict it."""
    kept = view.kept()
    return np.where(np.isfinite(view.depth) & (kept >= _LEAST_KEPT), view.weight.astype(np.float32) * kept, 0.0)
