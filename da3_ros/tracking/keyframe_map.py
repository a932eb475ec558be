"""The cloud of all keyframes, where the pose graph has them: kept up to date in pieces that fit into a step.

What later views contradict fades out. After the graph has moved, a second map is built beside the first one, some
keyframes at each step, and takes its place when it is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from da3_ros.geometry.se3 import invert
from da3_ros.tracking.dynamic import AGREES, IN_FRONT, compare_surfaces
from da3_ros.tracking.keyframe_store import Keyframe, KeyframeStore, KeyframeView
from da3_ros.tracking.loop_closure import unproject_grid
from da3_ros.tracking.similarity import transform
from da3_ros.tracking.voxel_map import VoxelMap

_REBUILT_PER_STEP = 8  # keyframes
_MOST_COMPARED = 6  # pairs of views, for each new keyframe
_LEAST_ALIKE = 0.5  # cosine of the angle between the optical axes of views that are compared
_LEAST_KEPT = 0.5  # belief below which a pixel is no part of the map
_MOST_COUNTED = 250  # of uint8


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
        self._queue: list[int] = []
        self._stale = False
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
        pairs = [(view, other, seen) for other in others for seen in other.views for view in keyframe.views]
        apart = [(view, other, seen) for view, other, seen in pairs if self._alike(keyframe, view, other, seen)]
        for view, other, seen in apart[:_MOST_COMPARED]:
            self._compare(keyframe, view, other, seen)
        self._layer.put(keyframe, self._pose(keyframe.number))
        if self._next is not None:
            self._queue.append(keyframe.number)
        self.version += 1

    def remove(self, keyframe: Keyframe) -> None:
        """Take a keyframe's points out."""
        for layer in self._layers():
            if keyframe.number in layer:
                layer.take_out(keyframe)
        self._queue = [number for number in self._queue if number != keyframe.number]
        self.version += 1

    def correct(self) -> None:
        """The graph has moved keyframes: build the map anew over the next steps."""
        if self._next is not None:
            self._stale = True  # the one under way is finished first, or frequent loops would starve it
            return
        numbers = self._store.numbers
        moved = [number for number in numbers if number in self._layer and self._moved(number)]
        if moved:
            self._next, self._queue = _Layer(*self._size), numbers

    def advance(self) -> None:
        """Some keyframes' worth of building, if there is any to do."""
        if self._next is None:
            return
        now, self._queue = self._queue[:_REBUILT_PER_STEP], self._queue[_REBUILT_PER_STEP:]
        for number in now:
            self._next.put(self._store[number], self._pose(number))
        if not self._queue:
            self._layer, self._next = self._next, None
            self.version += 1
            if self._stale:
                self._stale = False
                self.correct()

    @property
    def building(self) -> bool:
        """Whether a corrected map is under way."""
        return self._next is not None

    def _layers(self) -> list[_Layer]:
        return [self._layer] if self._next is None else [self._layer, self._next]

    def _moved(self, number: int) -> bool:
        """Whether a keyframe's points would move by more than half a voxel, 1 or 2 median depths away."""
        reach = self._store[number].median_depth
        corners = reach * np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
        apart = transform(self._layer.pose(number), corners) - transform(self._pose(number), corners)
        return float(np.linalg.norm(apart, axis=-1).max()) > 0.5 * self._size[0]

    def _S_cam_cam(self, keyframe: Keyframe, view: KeyframeView, other: Keyframe, seen: KeyframeView) -> np.ndarray:
        """From the camera ``view`` to the camera ``seen``, by the map."""
        S = [
            self._pose(frame.number) @ invert(frame.T_odom_body) @ one.T_odom_cam
            for frame, one in ((other, seen), (keyframe, view))
        ]
        return np.linalg.inv(S[0]) @ S[1]

    def _alike(self, keyframe: Keyframe, view: KeyframeView, other: Keyframe, seen: KeyframeView) -> bool:
        return self._S_cam_cam(keyframe, view, other, seen)[2, 2] > _LEAST_ALIKE

    def _compare(self, keyframe: Keyframe, view: KeyframeView, other: Keyframe, seen: KeyframeView) -> None:
        """Count what each of two views says of the other one's surfaces."""
        S = self._S_cam_cam(keyframe, view, other, seen)
        before = _worth(seen)
        for one, by, S_by_one in ((view, seen, S), (seen, view, np.linalg.inv(S))):
            says = compare_surfaces(
                torch.from_numpy(one.depth.astype(np.float32)),
                torch.from_numpy(one.K),
                torch.from_numpy(by.depth.astype(np.float32)),
                torch.from_numpy(by.K),
                torch.from_numpy(S_by_one),
                self._tolerance,
            ).numpy()
            one.against[...] = np.minimum(one.against.astype(np.int32) + (says == IN_FRONT), _MOST_COUNTED)
            one.agreed[...] = np.minimum(one.agreed.astype(np.int32) + (says == AGREES), _MOST_COUNTED)
        change = _worth(seen) - before
        for layer in self._layers():
            if other.number in layer:
                layer.change(other, seen, change)


def _worth(view: KeyframeView) -> np.ndarray:
    """Weight (h, w) float32 of each pixel in the map: its confidence, less where later views contradict it."""
    kept = view.kept()
    return np.where(np.isfinite(view.depth) & (kept >= _LEAST_KEPT), view.weight.astype(np.float32) * kept, 0.0)
