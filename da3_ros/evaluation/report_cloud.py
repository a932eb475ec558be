"""The point cloud of the report: estimate and truth in one world, packed into the page, with its own small viewer."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from da3_ros.errors import Da3Error
from da3_ros.evaluation.cloud_sample import CloudFrame
from da3_ros.evaluation.trajectory import Similarity3, Trajectory, align
from da3_ros.geometry.se3 import T_BODY_OPTICAL

_TRUTH_COLOUR = (40, 170, 120)
_NO_PICTURE = (150, 150, 150)
_OUTLIERS = 1.0  # percent at each end of each axis that do not make the view larger
_ROOM = 0.5  # times its size around what is left, within which points are kept
_STEPS = 65535  # of a coordinate
_MOST = 120_000  # points of the estimate and of the truth each: 12 bytes in the page


@dataclass(frozen=True)
class PagePoints:
    """``estimated`` (n, 3) with ``colours`` (n, 3) uint8 RGB, ``true`` (m, 3), metres in one world with z up; ``how``
    they came together, for people."""

    estimated: np.ndarray
    colours: np.ndarray
    true: np.ndarray
    how: str


def gather_points(frames: Sequence[CloudFrame], pictures: Mapping[tuple[str, int], np.ndarray]) -> PagePoints | None:
    """The points of ``frames`` in one world, coloured by ``pictures`` (BGR); None where there are none."""
    estimated, colours, true = [], [], []
    placed, how = _placed(frames)
    for frame, T_estimate, scale, T_true in placed:
        picture = pictures.get((frame.camera, frame.stamp_ns))
        estimated.append(scale * frame.points @ T_estimate[:3, :3].T + T_estimate[:3, 3])
        colours.append(_colours(frame, picture))
        if frame.true is not None and T_true is not None:
            true.append(frame.true @ T_true[:3, :3].T + T_true[:3, 3])
    if not estimated or not sum(map(len, estimated)):
        return None
    nothing = np.empty((0, 3))
    return PagePoints(np.concatenate(estimated), np.concatenate(colours), np.concatenate([*true, nothing]), how)


def cloud_section(points: PagePoints | None) -> str:
    """HTML of the viewer; the page's script (report_cloud_view) brings it to life."""
    if points is None:
        return ""
    both = np.concatenate([points.estimated, points.true])
    low, high = np.percentile(both, (_OUTLIERS, 100 - _OUTLIERS), axis=0)
    size = np.maximum(high - low, 1e-3)
    low, high = low - _ROOM * size, high + _ROOM * size
    unit = float((high - low).max()) / _STEPS
    packed = []
    for xyz, rgb in (
        (points.estimated, points.colours),
        (points.true, np.tile(np.array(_TRUTH_COLOUR, np.uint8), (len(points.true), 1))),
    ):
        inside = np.flatnonzero(((xyz >= low) & (xyz <= high)).all(axis=1))
        if len(inside) > _MOST:
            inside = np.sort(np.random.default_rng(0).permutation(inside)[:_MOST])
        whole = ((xyz[inside] - low) / unit).round().astype("<u2")
        packed.append((whole.tobytes() + rgb[inside].astype(np.uint8).tobytes(), len(inside)))
    data = base64.b64encode(b"".join(part for part, _ in packed)).decode()
    counts = " ".join(str(count) for _, count in packed)
    corner = " ".join(f"{value:.6g}" for value in low)
    truth = '<button type="button" class="key" aria-pressed="true" data-part="1"><i class="truth"></i>truth</button>'
    return (
        f'<p class="dim">{escape(points.how)}. Drag to turn, drag with Shift or the right button to move, '
        "wheel to zoom.</p>"
        f'<figure class="cloud" data-counts="{counts}" data-unit="{unit:.6g}" data-corner="{corner}">'
        '<canvas tabindex="0" aria-label="point cloud"></canvas>'
        f'<script type="text/plain">{data}</script>'
        '<div class="legend"><button type="button" class="key" aria-pressed="true" data-part="0"><i></i>estimate</button>'
        f'{truth if packed[1][1] else ""}'
        '<button type="button" class="key" data-view="top">from above</button>'
        '<button type="button" class="key" data-view="start">back to the start</button>'
        f'<span class="dim">{packed[0][1]:,} points</span></div></figure>'
    )


def _placed(
    frames: Sequence[CloudFrame],
) -> tuple[list[tuple[CloudFrame, np.ndarray, float, np.ndarray | None]], str]:
    """Of each frame that can be placed: T_page_cam and scale of its estimate, and T_page_cam of its truth."""
    posed = [frame for frame in frames if frame.T_world_cam is not None]
    true = [frame for frame in frames if frame.T_true_cam is not None]
    both = [frame for frame in posed if frame.T_true_cam is not None]
    if both:
        found, hows = [], []
        for piece in sorted({frame.piece for frame in both}):
            mine = [frame for frame in both if frame.piece == piece]
            similarity, how = _fit(mine)
            hows.append(how)
            for frame in mine:
                assert frame.T_world_cam is not None
                T = similarity.poses(frame.T_world_cam[None])[0]
                found.append((frame, T, similarity.scale, frame.T_true_cam))
        return found, f"{len(found)} frames in the world of the truth, {' or '.join(dict.fromkeys(hows))}"
    if posed:
        first = [frame for frame in posed if frame.piece == posed[0].piece]
        return [(f, f.T_world_cam, 1.0, None) for f in first if f.T_world_cam is not None], (
            f"{len(first)} frames at their estimated poses"
        )
    if true:
        return [(f, f.T_true_cam, 1.0, f.T_true_cam) for f in true if f.T_true_cam is not None], (
            f"{len(true)} frames at their true poses: none are estimated"
        )
    return [(frame, T_BODY_OPTICAL, 1.0, T_BODY_OPTICAL) for frame in frames[:1]], (
        "one frame: no poses are known that would place others beside it"
    )


def _fit(frames: Sequence[CloudFrame]) -> tuple[Similarity3, str]:
    """What brings the estimates of one piece to the truth."""
    # Several cameras of one moment: the stamps are only an order here.
    order = np.arange(len(frames), dtype=np.int64)
    estimate = Trajectory(order, np.stack([frame.T_world_cam for frame in frames if frame.T_world_cam is not None]))
    truth = Trajectory(order, np.stack([frame.T_true_cam for frame in frames if frame.T_true_cam is not None]))
    try:
        similarity = align(estimate, truth, "sim3")
        if np.isfinite(similarity.scale) and similarity.scale > 0:
            return similarity, f"brought there by rotation, shift and the scale {similarity.scale:.3g}"
    except Da3Error:
        pass
    return align(estimate, truth, "first"), "their first cameras laid on each other"


def _colours(frame: CloudFrame, picture: np.ndarray | None) -> np.ndarray:
    """(n, 3) uint8 RGB."""
    if picture is None:
        return np.tile(np.array(_NO_PICTURE, np.uint8), (len(frame.points), 1))
    height, width = picture.shape[:2]
    u = ((frame.pixels[:, 0] + 0.5) * width / frame.size[1]).astype(int).clip(0, width - 1)
    v = ((frame.pixels[:, 1] + 0.5) * height / frame.size[0]).astype(int).clip(0, height - 1)
    return picture[v, u, ::-1]
