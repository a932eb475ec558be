"""Points that pictures of two places share, by how they look (SIFT), and whether the network has them in one spot.

A network relates pictures of different places, too, and plausibly. What it cannot do is to make the same points show up
in the pictures of both, and then at the same spot: that is evidence apart from its own, however far off its depth and
poses are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from da3_ros.geometry.se3 import invert
from da3_ros.tracking.keyframe_store import KeyframeView, map_grid
from da3_ros.tracking.similarity import transform

_MOST_POINTS = 400  # of one picture
_LONGEST_SIDE = 256  # pixels in which they are looked for: SIFT's time goes by their number
_LEAST_CONTRAST = 0.02  # half of OpenCV's: pictures at the network's size are small and have been compressed
_RATIO = 0.8  # nearest over second nearest descriptor (Lowe, 2004)
# By how much the network may have two sightings of one point apart: seen from either camera (radians), and in the
# logarithm of depth. Wide, since how exact the network is, is not what is asked; points of other places are anywhere.
_APART_RAD, _APART_LOG_DEPTH = 0.1, 0.4
_PARTS = np.array([4, 5])  # rows, columns


@dataclass(frozen=True)
class Points:
    """Of one picture: ``rays`` (n, 3) with z = 1 in the optical frame, the nearest pixels ``row`` and ``column`` (n,)
    of the view's coarse grid, and ``descriptors`` (n, D)."""

    rays: np.ndarray
    row: np.ndarray
    column: np.ndarray
    descriptors: np.ndarray

    def __len__(self) -> int:
        return len(self.rays)


@dataclass(frozen=True)
class Sightings:
    """Of the view whose points agree most: how many spots of its coarse grid are seen from the other place, too
    (``matched``), how many of them the network has in one spot with what is seen there (``agreeing``), and in how many
    of 20 equal parts of the picture these are (``parts``)."""

    matched: int
    agreeing: int
    parts: int


def find_points(view: KeyframeView) -> Points:
    """What is distinctive in a keyframe's picture, where the view has depth."""
    grey = cv2.cvtColor(np.ascontiguousarray(view.picture()), cv2.COLOR_RGB2GRAY)
    top, left, height, width = view.content
    content = np.zeros_like(grey)
    content[top : top + height, left : left + width] = 255
    shrink = min(1.0, _LONGEST_SIDE / max(grey.shape))
    small = (round(grey.shape[1] * shrink), round(grey.shape[0] * shrink))
    grey = cv2.resize(grey, small, interpolation=cv2.INTER_AREA)
    content = cv2.resize(content, small, interpolation=cv2.INTER_NEAREST)
    detector = cv2.SIFT.create(_MOST_POINTS, contrastThreshold=_LEAST_CONTRAST)
    found, descriptors = detector.detectAndCompute(grey, content)
    if descriptors is None:
        descriptors = np.zeros((0, 128), dtype=np.float32)
    rows, columns = map_grid(*view.canvas_hw)
    uv = np.array([point.pt for point in found], dtype=np.float64).reshape(-1, 2)
    uv = (uv + 0.5) * (np.array(view.canvas_hw[::-1]) / small) - 0.5  # pixels of the whole picture
    uv = (uv - (columns.start, rows.start)) / (columns.step, rows.step)
    rays = np.concatenate([uv, np.ones((len(uv), 1))], axis=1) @ np.linalg.inv(view.K).T
    column, row = uv.round().astype(np.int64).clip(0, np.array(view.depth.shape[::-1]) - 1).T
    known = view.weight[row, column] > 0
    return Points(rays[known], row[known], column[known], descriptors[known])


def compare_sightings(
    points: Sequence[Points], T_world_cam: np.ndarray, depth: Sequence[np.ndarray], split: int
) -> Sightings:
    """Of the ``points`` of N views in a window, T_world_cam (N, 4, 4) and N maps (h, w): those that one of the first
    ``split`` views shares with any of the others. A point counts once, however many of them show it."""
    best = Sightings(0, 0, 0)
    for i in range(split):
        matched, agreeing = np.zeros((2, len(points[i])), dtype=bool)
        for j in range(split, len(points)):
            of_i, of_j = _mutual(points[i].descriptors, points[j].descriptors)
            z_i, z_j = (
                depth[index][points[index].row[rows], points[index].column[rows]].astype(np.float64)
                for index, rows in ((i, of_i), (j, of_j))
            )
            known = np.isfinite(z_i) & np.isfinite(z_j) & (z_i > 0) & (z_j > 0)
            of_i, of_j = of_i[known], of_j[known]
            seen_i, seen_j = (
                z_i[known, None] * points[i].rays[of_i],
                z_j[known, None] * points[j].rays[of_j],
            )
            T_j_i = invert(T_world_cam[j]) @ T_world_cam[i]
            matched[of_i] = True
            agreeing[of_i] |= _near(transform(T_j_i, seen_i), seen_j) & _near(transform(invert(T_j_i), seen_j), seen_i)
        spots, agreed = _spots(points[i], matched), _spots(points[i], agreeing)
        parts = np.unique(agreed * _PARTS // depth[i].shape, axis=0)  # rows and columns of the picture's parts
        best = max(best, Sightings(len(spots), len(agreed), len(parts)), key=lambda found: found.agreeing)
    return best


def _spots(points: Points, which: np.ndarray) -> np.ndarray:
    """Pixels (k, 2) of the coarse grid, each once, of the points that are ``which`` (n,)."""
    return np.unique(np.stack([points.row, points.column], axis=1)[which], axis=0)


def _near(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Which of two sightings (n, 3) in the frame of one camera are of one spot, (n,) bool."""
    length = np.linalg.norm(here, axis=-1) * np.linalg.norm(there, axis=-1)
    cosine = (here * there).sum(-1) / length.clip(min=1e-12)
    ratio = here[:, 2].clip(min=1e-12) / there[:, 2]
    return (cosine >= np.cos(_APART_RAD)) & (np.abs(np.log(ratio)) <= _APART_LOG_DEPTH)


def _mutual(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of descriptors (n, D) and (m, D) that are each other's nearest, and clearly so."""
    if min(len(a), len(b)) < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    # SIFT's are whole numbers, so in float32 their products are exact. By torch for its number of threads, see places.
    products = (torch.from_numpy(a) @ torch.from_numpy(b).T).numpy()
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * products
    into, back = _clearly_nearest(squares), _clearly_nearest(squares.T)
    rows = np.flatnonzero((into >= 0) & (back[into] == np.arange(len(a))))
    return rows, into[rows]


def _clearly_nearest(squares: np.ndarray) -> np.ndarray:
    """The column (n,) of the least one of each row of squared distances (n, m); -1 where others are nearly as near."""
    first, second = np.partition(squares, 1, axis=1)[:, :2].T
    return np.where(first < _RATIO**2 * second, squares.argmin(1), -1)
