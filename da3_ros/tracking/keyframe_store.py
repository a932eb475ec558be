"""Keyframes in bounded memory: pictures compressed, depth coarse, the most redundant ones thinned out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

_MAP_PIXELS = 72  # along the longer side, about: neighbours nearer than that repeat each other
_JPEG_QUALITY = 95  # at which the network's depth is within its own noise
_TURN_LIKE_M = 2.0  # metres that a turn by one radian counts for when keyframes are thinned


@dataclass(eq=False)
class KeyframeView:
    """One camera's view. Depth and colours are of every so manieth pixel, with the intrinsics K (3, 3) of that grid.

    ``depth`` (h, w) float16 metres, NaN where there is none; ``weight`` (h, w) float16; ``colours`` (h, w, 3) uint8;
    ``jpeg``: the network's whole picture of ``canvas_hw`` pixels, ``content`` of it being no padding. ``against``
    (h, w) uint8 counts the later views that saw through a pixel's surface, ``agreed`` those that saw it.
    """

    camera: str
    T_odom_cam: np.ndarray
    K: np.ndarray
    canvas_hw: tuple[int, int]
    content: tuple[int, int, int, int]
    jpeg: bytes
    depth: np.ndarray
    weight: np.ndarray
    colours: np.ndarray
    against: np.ndarray
    agreed: np.ndarray

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        maps = (self.depth, self.weight, self.colours, self.against, self.agreed)
        return len(self.jpeg) + sum(part.nbytes for part in maps)

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB; decoded now."""
        decoded = cv2.imdecode(np.frombuffer(self.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        return decoded[..., ::-1]

    def kept(self) -> np.ndarray:
        """(h, w) float32 0..1: how far each pixel is believed: less with every later view that contradicts it."""
        return (1.0 + self.agreed) / (1.0 + self.agreed + 2.0 * self.against.astype(np.float32))


def map_grid(height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of an image of H x W pixels that keyframes keep depth and colour of."""
    step = max(1, max(height, width) // _MAP_PIXELS)
    return slice(step // 2, height, step), slice(step // 2, width, step)


def encode_picture(colours: np.ndarray) -> bytes:
    """Picture (3, H, W) uint8 RGB to JPEG."""
    ok, encoded = cv2.imencode(
        ".jpg", np.ascontiguousarray(colours.transpose(1, 2, 0)[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    assert ok
    return encoded.tobytes()


@dataclass(eq=False)
class Keyframe:
    """One set of views that stays. ``T_odom_body`` (4, 4): pose in odom; ``median_depth`` in metres;
    ``view_variance``: of StepMaps; ``jumps`` of the scale before it: metres of others with as many are the same."""

    number: int
    stamp_ns: int
    T_odom_body: np.ndarray
    median_depth: float
    way: float  # motion up to here, in median depths and radians
    views: tuple[KeyframeView, ...]
    view_variance: tuple[float, float]
    jumps: int = 0

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return sum(view.nbytes for view in self.views)


class KeyframeStore:
    """At most ``limit`` keyframes, in the order of the way. Not thread-safe."""

    def __init__(self, limit: int):
        self._limit = limit
        self._kept: dict[int, Keyframe] = {}
        self.nbytes = 0  # memory of all keyframes

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Keyframe]:
        return iter(self._kept.values())

    def __contains__(self, number: int) -> bool:
        return number in self._kept

    def __getitem__(self, number: int) -> Keyframe:
        return self._kept[number]

    @property
    def numbers(self) -> list[int]:
        """Of all keyframes, oldest first."""
        return list(self._kept)

    @property
    def last(self) -> Keyframe | None:
        """The newest one."""
        return next(reversed(self._kept.values()), None)

    def add(self, keyframe: Keyframe) -> None:
        """Keep a keyframe."""
        self._kept[keyframe.number] = keyframe
        self.nbytes += keyframe.nbytes

    def remove(self, number: int) -> None:
        """Forget a keyframe."""
        self.nbytes -= self._kept.pop(number).nbytes

    def redundant(self, T_map_body: np.ndarray) -> int | None:
        """The keyframe to give up, if there are too many, by the poses (K, 4, 4) of all of them on the map.

        It is the one whose two nearest others, in place and direction, are nearest: a stretch that was driven again and
        again thins out, whenever that was, and a long way does evenly. The first one and the newest tenth stay. Nor do
        these count as neighbours: where the map has drifted, they seem to be where others are that no loop has shown
        them to be at yet, and without those none ever would.
        """
        if len(self._kept) <= self._limit:
            return None
        # Turned by an angle, two axes of length a differ by sqrt(2) a times as much.
        axes = _TURN_LIKE_M / np.sqrt(2.0) * T_map_body[:, :3, :2].reshape(-1, 6)
        place = np.concatenate([T_map_body[:, :3, 3] - T_map_body[:, :3, 3].mean(0), axes], axis=1)
        place = place[: max(3, len(place) - self._limit // 10)]
        squares = (place**2).sum(-1)
        apart = squares[1:, None] + squares - 2 * place[1:] @ place.T
        apart[np.arange(len(apart)), np.arange(1, len(place))] = np.inf
        two = np.sqrt(np.partition(apart, 1, axis=1)[:, :2].clip(min=0.0)).sum(-1)
        return self.numbers[1 + int(two.argmin())]
