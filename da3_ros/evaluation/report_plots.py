"""The plots of the report: trajectory, errors over time, and what the confidence says of the errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from da3_ros.errors import InputError, UnavailableError
from da3_ros.evaluation.report_charts import Series, line_chart
from da3_ros.evaluation.report_table import shown
from da3_ros.evaluation.trajectory import Trajectory, TrajectoryAlignment, align
from da3_ros.evaluation.up_axis import UpAxis

_FEW = 40  # points of a line that are marked
# Size of a chart, and what its row is called, for two and for three side by side.
_HALF, _THIRD = ((560, 260), "row"), ((400, 240), "row three")


def trajectory_plots(trajectory: Mapping[str, Any] | None) -> str:
    """The estimated and the true way from above and from the side; nothing without truth."""
    if not trajectory:
        return ""
    estimated, how = _aligned(trajectory["positions"], "se3")
    scaled, _ = _aligned(trajectory["positions"], "sim3")
    true = np.array(trajectory["positions"]["true"])
    views, few = [], len(true) <= _FEW
    up = UpAxis.parse(trajectory["up"])
    level, names = up.rotation, ["xyz"[axis] for axis in up.level]
    for name, vertical, label in (("Top", 1, f"{names[1]} (m)"), ("Side", 2, f"{up}, up (m)")):
        (x, y), (x_estimated, y_estimated), (x_scaled, y_scaled) = (
            (positions @ level.T)[:, (0, vertical)].T.tolist() for positions in (true, estimated, scaled)
        )
        lines = [
            Series("truth", x, y, 1, dots=few),
            Series("estimate", x_estimated, y_estimated, 2, dots=few),
            Series("estimate, lengths scaled too", x_scaled, y_scaled, 3, dashed=True),
        ]
        chart = line_chart(lines, f"{names[0]} (m)", label, (560, 380), equal=True)
        views.append(f"<div><h3>{name}</h3>{chart}</div>")
    frame = f" of {escape(trajectory['frame'])}" if trajectory.get("frame") else ""
    return (
        f'<p class="dim">Positions{frame} in the world of the truth, where {up} is taken to be up, {escape(how)}.</p>'
        f'<div class="row">{"".join(views)}</div>'
    )


def _aligned(positions: Mapping[str, Any], alignment: TrajectoryAlignment) -> tuple[np.ndarray, str]:
    """The estimated positions (n, 3) in the true world, each piece by itself, and how they came there."""
    starts = positions["starts"]
    parts, hows = [], []
    for start, stop in zip(starts, [*starts[1:], len(positions["true"])], strict=True):
        estimated, true = (_still(np.array(positions[name][start:stop])) for name in ("estimated", "true"))
        try:
            parts.append(align(estimated, true, alignment).poses(estimated.T_world_body)[:, :3, 3])
            hows.append("aligned by rotation and shift")
        except (InputError, UnavailableError):
            parts.append(estimated.positions + (true.positions[0] - estimated.positions[0]))
            hows.append("shifted to the same start, since no rotation is known")
    how = " or ".join(dict.fromkeys(hows))
    return np.concatenate(parts), how if len(starts) == 1 else f"{len(starts)} pieces, each {how}"


def _still(positions: np.ndarray) -> Trajectory:
    T = np.tile(np.eye(4), (len(positions), 1, 1))
    T[:, :3, 3] = positions
    return Trajectory(np.arange(len(positions), dtype=np.int64), T)


def start_of(metrics: Mapping[str, Any]) -> int:
    """Stamp (ns) from which the report counts the time."""
    stamps = [entry["stamp_ns"] for score in metrics["depth"].values() for entry in score["over_time"][:1]]
    stamps += metrics["trajectory"]["positions"]["stamps_ns"][:1] if metrics["trajectory"] else []
    return min(stamps, default=0)


def over_time_plots(metrics: Mapping[str, Any]) -> str:
    """Errors of the depth of each camera, its scale, and the error of the position."""
    start_ns = start_of(metrics)
    size, row = _THIRD if len(metrics["depth"]) > 1 else _HALF  # three charts of each camera, and one of the position
    charts = []
    for camera, score in metrics["depth"].items():
        entries = score["over_time"]
        error = [
            _drawn(entries, start_ns, "abs_rel", "as it is", 2),
            _drawn(entries, start_ns, "abs_rel_median", "medians aligned", 1),
        ]
        share = [
            _drawn(entries, start_ns, "delta1", "as it is", 2),
            _drawn(entries, start_ns, "delta1_median", "medians aligned", 1),
            _drawn(entries, start_ns, "covered", "covered", 3),
        ]
        scale = [_drawn(entries, start_ns, "scale", "ratio of the medians", 4)]
        for what, label, lines in (
            ("error of depth", "AbsRel", error),
            ("pixels within 25 %", "\N{GREEK SMALL LETTER DELTA}1, share of pixels", share),
            ("scale of depth", "true / estimated depth", scale),
        ):
            chart = line_chart(lines, "time (s)", label, size, from_zero=lines is not scale)
            charts.append((f"{camera}: {what}", chart))
    trajectory = metrics["trajectory"]
    if trajectory:
        estimated, how = _aligned(trajectory["positions"], "se3")
        distance = np.linalg.norm(estimated - np.array(trajectory["positions"]["true"]), axis=1).tolist()
        seconds = [(stamp - start_ns) / 1e9 for stamp in trajectory["positions"]["stamps_ns"]]
        line = Series("distance from the true position", seconds, distance, 1, dots=len(seconds) <= _FEW)
        charts.append((f"Position, {how}", line_chart([line], "time (s)", "error (m)", size, from_zero=True)))
    blocks = "".join(f"<div><h3>{escape(title)}</h3>{chart}</div>" for title, chart in charts)
    return f'<div class="{row}">{blocks}</div>' if charts else ""


def _drawn(entries: Sequence[Mapping[str, Any]], start_ns: int, key: str, label: str, colour: int) -> Series:
    seconds = [(entry["stamp_ns"] - start_ns) / 1e9 for entry in entries]
    return Series(label, seconds, [entry[key] for entry in entries], colour, dots=len(entries) <= _FEW)


def confidence_plots(depth: Mapping[str, Any]) -> str:
    """Of each camera with confidence: errors by confidence, and what is left once the least confident are dropped."""
    parts = []
    for camera, score in depth.items():
        found = score.get("confidence")
        if found and "note" not in found:
            count = len(found["confidence"])
            bins = [100 * (index + 0.5) / count for index in range(count)]
            dropped = [100 * index / count for index in range(count)]
            by_bin = [
                Series("mean", bins, found["mean_error"], 1, dots=True),
                Series("median", bins, found["median_error"], 3, dots=True),
            ]
            kept = [
                Series("least confident dropped first", dropped, found["kept_error"], 1, dots=True),
                Series("largest error dropped first", dropped, found["oracle_error"], 2, dashed=True),
            ]
            charts = (
                line_chart(by_bin, "pixels by confidence, least to most (%)", "AbsRel", from_zero=True),
                line_chart(kept, "pixels dropped (%)", "AbsRel of the rest", from_zero=True),
            )
            parts.append(
                f"<h3>{escape(camera)}</h3><p class='dim'>Rank correlation of confidence and error "
                f"{shown(found['rank_correlation'])} (-1: confidence orders the errors perfectly, 0: it says nothing, "
                f"above 0: it misleads). Area between the curves on the right: {shown(found['ause'])} of the mean "
                f"error (0: perfect). {found['pixels']} pixels, the frames' medians aligned.</p>"
                f"<div class='row'>{charts[0]}{charts[1]}</div>"
            )
    return "".join(parts)
