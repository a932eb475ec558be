"""The point cloud of the report: estimate and truth in one world, packed into the page, with its own small viewer."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from da3_ros.evaluation.cloud_sample import CloudFrame, point_colours
from da3_ros.evaluation.trajectory import Similarity3, fit_worlds
from da3_ros.evaluation.up_axis import up_of_cameras
from da3_ros.geometry.se3 import T_BODY_OPTICAL

_TRUTH_COLOUR = (40, 170, 120)
_OUTLIERS = 1.0  # percent at each end of each axis that do not make the view larger
_ROOM = 0.5  # times its size around what is left, within which points are kept
_STEPS = 65535  # of a coordinate
_MOST = 120_000  # points of the estimate and of the truth each: 12 bytes in the page


@dataclass(frozen=True)
class PagePoints:
    """``estimated`` (n, 3) with ``colours`` (n, 3) uint8 RGB, ``true`` (m, 3), metres in one world with z up; ``how``
    they came together, for people. ``at_truth`` (k, 3) with its colours: the estimated depth at the true poses, each
    frame with the median of its truth, for errors of depth apart from those of poses."""

    estimated: np.ndarray
    colours: np.ndarray
    true: np.ndarray
    at_truth: np.ndarray
    at_truth_colours: np.ndarray
    how: str


def gather_points(frames: Sequence[CloudFrame], pictures: Mapping[tuple[str, int], np.ndarray]) -> PagePoints | None:
    """The points of ``frames`` in one world, coloured by ``pictures`` (BGR); None where there are none."""
    nothing = np.empty((0, 3))
    estimated, colours, true = [], [], [nothing]
    at_truth, at_truth_colours = [nothing], [np.empty((0, 3), np.uint8)]
    placed, how = _placed(frames)
    for frame, T_estimate, scale, T_true in placed:
        picture = pictures.get((frame.camera, frame.stamp_ns))
        estimated.append(scale * frame.points @ T_estimate[:3, :3].T + T_estimate[:3, 3])
        colours.append(point_colours(frame, picture))
        if frame.true is not None and T_true is not None and len(frame.true) and len(frame.points):
            true.append(frame.true @ T_true[:3, :3].T + T_true[:3, 3])
            own_scale = np.median(frame.true[:, 2]) / np.median(frame.points[:, 2])
            at_truth.append(own_scale * frame.points @ T_true[:3, :3].T + T_true[:3, 3])
            at_truth_colours.append(colours[-1])
    if not estimated or not sum(map(len, estimated)):
        return None
    cameras = np.stack([T_estimate if T_true is None else T_true for _, T_estimate, _, T_true in placed])
    level = up_of_cameras(-cameras[:, :3, 1].mean(axis=0), cameras[:, :3, 3]).rotation.T
    return PagePoints(
        np.concatenate(estimated) @ level,
        np.concatenate(colours),
        np.concatenate(true) @ level,
        np.concatenate(at_truth) @ level,
        np.concatenate(at_truth_colours),
        how,
    )


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
        (points.true, _shaded(points.true[:, 2])),
        (points.at_truth, points.at_truth_colours),
    ):
        inside = np.flatnonzero(((xyz >= low) & (xyz <= high)).all(axis=1))
        if len(inside) > _MOST:
            inside = np.sort(np.random.default_rng(0).permutation(inside)[:_MOST])
        whole = ((xyz[inside] - low) / unit).round().astype("<u2")
        packed.append((whole.tobytes() + rgb[inside].astype(np.uint8).tobytes(), len(inside)))
    data = base64.b64encode(b"".join(part for part, _ in packed)).decode()
    counts = " ".join(str(count) for _, count in packed)
    corner = " ".join(f"{value:.6g}" for value in low)
    truth = (
        '<button type="button" class="key" aria-pressed="true" data-part="1"><i class="truth"></i>truth</button>'
        '<button type="button" class="key" aria-pressed="false" data-part="2"><i></i>depth alone: at the true poses, '
        "each frame with the median of the truth</button>"
    )
    return (
        f'<p class="dim">{escape(points.how)}. Drag to turn, drag with Shift or the right button to move, '
        "wheel to zoom.</p>"
        f'<figure class="cloud" data-counts="{counts}" data-unit="{unit:.6g}" data-corner="{corner}">'
        '<canvas tabindex="0" aria-label="point cloud"></canvas>'
        f'<script type="text/plain">{data}</script>'
        '<div class="legend">'
        '<button type="button" class="key" aria-pressed="true" data-part="0"><i></i>estimate</button>'
        f"{truth if packed[1][1] else ''}"
        '<button type="button" class="key" data-view="top">from above</button>'
        '<button type="button" class="key" data-view="start">back to the start</button>'
        f'<span class="dim">{packed[0][1]:,} points</span></div></figure>'
    )


def _shaded(height: np.ndarray) -> np.ndarray:
    """Colours (n, 3) uint8 of the truth: darker below, so that its shape shows."""
    rank = (height - height.min()) / max(float(np.ptp(height)), 1e-9) if len(height) else height
    return ((0.35 + 0.65 * rank[:, None]) * np.array(_TRUTH_COLOUR)).astype(np.uint8)


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
            similarity, how = fit_worlds([(f.T_world_cam, f.T_true_cam) for f in mine])  # type: ignore[misc]
            if similarity.scale == 1.0:  # the poses determine none
                similarity, more = _with_scale_of_depth(similarity, mine)
                how += more
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


def _with_scale_of_depth(similarity: Similarity3, frames: Sequence[CloudFrame]) -> tuple[Similarity3, str]:
    """The same, the first camera still in its place, with the scale that brings the median depths together."""
    seen = [frame for frame in frames if frame.true is not None and len(frame.true) and len(frame.points)]
    if not seen:
        return similarity, ""
    true = np.concatenate([frame.true[:, 2] for frame in seen if frame.true is not None])
    scale = float(np.median(true) / np.median(np.concatenate([frame.points[:, 2] for frame in seen])))
    first = frames[0].T_world_cam
    assert first is not None
    moved = similarity.rotation @ first[:3, 3]
    scaled = Similarity3(scale, similarity.rotation, similarity.translation + moved - scale * moved)
    return scaled, f", lengths times {scale:.3g} (the ratio of the median depths)"
