"""The report of one evaluation: a single HTML file that needs nothing else, neither network nor files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from da3_ros.errors import InputError
from da3_ros.evaluation.report_cloud import PagePoints, cloud_section
from da3_ros.evaluation.report_cloud_view import CLOUD_SCRIPT, CLOUD_STYLE
from da3_ros.evaluation.report_examples import DepthExample
from da3_ros.evaluation.report_maps import example_maps
from da3_ros.evaluation.report_plots import confidence_plots, over_time_plots, start_of, trajectory_plots
from da3_ros.evaluation.report_recordings import ALL_RECORDINGS, anchor, recordings_table
from da3_ros.evaluation.report_style import SCRIPT, STYLE
from da3_ros.evaluation.report_table import table
from da3_ros.evaluation.run_settings import EVALUATED, SETTINGS, chosen

_ALIGNMENTS = {"none": "none", "median": "medians", "scale": "scale", "scale_shift": "scale and shift"}
_POSE_ALIGNMENTS = {
    "none": "as it is",
    "first": "first pose",
    "se3": "rotation and shift (SE3)",
    "sim3": "rotation, shift and scale (Sim3)",
}


_DEPTH_ERRORS = {
    "abs_rel": "AbsRel",
    "rmse": "RMSE (m)",
    "delta1": "\N{GREEK SMALL LETTER DELTA}1",
    "delta2": "\N{GREEK SMALL LETTER DELTA}2",
    "delta3": "\N{GREEK SMALL LETTER DELTA}3",
    "covered": "covered",
}
_POSE_ERRORS = ("rmse", "mean", "median", "largest")
_STEPS = {
    "largest_step": "largest step",
    "true_step": "true step there",
    "largest_difference": "largest difference of a step",
}
_RUN = {
    "weights_trained": "trained weights",
    "rate_hz": "estimates per second",
    "recorded_s": "recorded (s)",
    "elapsed_s": "took (s), without loading the network",
    "first_s": "of that, until the first estimate (s)",
    "real_time_factor": "times real time",
}
_LATENCY = {"p50": "median", "p95": "95 %", "max": "longest"}
_EVALUATED = {
    "tolerance_s": "largest difference of stamps that belong together (s)",
    "max_depth_m": "true depth counts up to (m)",
    "true_poses": "true poses from",
    "true_depth": "true depth of {} from",
    "external_frame": "the other program's poses are of",
    "depth": "the other program's depth from",
    "units_per_metre": "whole numbers of that depth to a metre",
}
_CONSISTENCY = {
    "pairs": "pairs",
    "overlap": "overlap",
    "median_error": "median error",
    "within_5": "within 5 %",
    "within_10": "within 10 %",
    "scale_flicker": "scale flicker",
    "local_flicker": "local flicker",
}
_SURFACE = ("accuracy", "completeness", "chamfer", "precision", "recall", "f1")


@dataclass(frozen=True)
class RecordingPart:
    """What the page shows of one recording. ``metrics`` as in metrics.json; ``examples``: depth maps and why each is
    shown; ``points``: of the viewer."""

    name: str
    metrics: Mapping[str, Any]
    examples: Sequence[tuple[str, DepthExample]] = ()
    points: PagePoints | None = None


def write_report(path: Path, metrics: Mapping[str, Any], parts: Sequence[RecordingPart]) -> None:
    """Write the page about ``metrics`` (what metrics.json holds) to ``path``; ``parts``: the one recording, or each of
    several. Raises InputError for a file that cannot be written."""
    if len(parts) == 1 and "recordings" not in metrics:
        sections = [_section("Summary", _summary(metrics)), *_details(parts[0])]
    else:
        sections = [
            _section("Recordings", recordings_table(metrics, [part.name for part in parts])),
            _section("All together", _summary(metrics)),
            *(
                f'<section><details id="{anchor(number)}"><summary>{escape(part.name)}</summary>'
                f"{_section('Summary', _summary(part.metrics))}{''.join(_details(part))}"
                f"{_section('Truth', _evaluated(part.metrics['run'].get(EVALUATED, {})))}"
                f'<p><a href="#{ALL_RECORDINGS}">All recordings</a></p></details></section>'
                for number, part in enumerate(parts)
            ),
        ]
    sections.append(_section("Does low confidence mean high error?", confidence_plots(metrics["depth"])))
    sections.append(_section("Run", _run(metrics)))
    bags = ", ".join(metrics["bags"])
    title = Path(metrics["bags"][0]).name if len(metrics["bags"]) == 1 else f"{len(metrics['bags'])} recordings"
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: evaluation</title><style>{STYLE}{CLOUD_STYLE}</style></head><body><main>"
        f'<header><div><h1>Evaluation</h1><p class="dim">{escape(bags)}</p></div>'
        '<button type="button" class="theme">Light / dark</button></header>'
        f"{_warnings(metrics)}{_tiles(metrics)}{''.join(sections)}</main>"
        f"<script>{SCRIPT}{CLOUD_SCRIPT}</script></body></html>\n"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def _details(part: RecordingPart) -> list[str]:
    """All of one recording but its numbers."""
    start_ns = start_of(part.metrics)
    return [
        _section("Trajectory", trajectory_plots(part.metrics["trajectory"])),
        _section("Error over time", over_time_plots(part.metrics)),
        _section("Depth examples", "".join(example_maps(why, each, start_ns) for why, each in part.examples)),
        _section("Point cloud", cloud_section(part.points)),
    ]


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def _warnings(metrics: Mapping[str, Any]) -> str:
    """What a reader must know before any number."""
    found = []
    if metrics["run"].get("weights_trained") is False:
        found.append("The network has random weights: these numbers say nothing about Depth Anything 3.")
    if metrics["lost"]:
        found.append("Parts of the recording could not be read: the notes at the end say which.")
    for name, each in metrics.get("recordings", {"": metrics}).items():
        for camera, score in each["depth"].items():
            if "warning" in score:
                found.append(f"{f'{name}: ' if name else ''}depth of {camera}: {score['warning']}.")
    return "".join(f'<p class="warning">{escape(text)}</p>' for text in found)


def _tiles(metrics: Mapping[str, Any]) -> str:
    trajectory, run = metrics["trajectory"] or {}, metrics["run"]
    found: list[tuple[str, float | None, str]] = []
    cameras = list(metrics["depth"])
    of = f", mean of {len(cameras)} cameras" if len(cameras) > 1 else ""
    for alignment, how in (("none", "as it is"), ("median", "medians aligned")) if cameras else ():
        values = [metrics["depth"][camera]["per_frame"][alignment]["abs_rel"] for camera in cameras]
        known = [value for value in values if value is not None]
        found.append((f"AbsRel, {how}{of}", sum(known) / len(known) if known else None, ""))
    if trajectory:
        ate = trajectory["ate"]["se3"]
        found.append(("ATE (SE3), RMSE", ate and ate["rmse"], " m"))
        found.append(("Pose AUC@30", (trajectory["auc"] or {}).get("30"), ""))
        found.append(("Scale error", trajectory["scale_error"] and 100 * trajectory["scale_error"], " %"))
    found.append(("Estimates per second", run.get("rate_hz"), ""))
    found.append(("Times real time, first step included", run.get("real_time_factor"), ""))
    tiles = "".join(
        f'<div class="tile"><b>{value:.3g}{unit}</b><span class="dim">{escape(name)}</span></div>'
        for name, value, unit in found
        if value is not None
    )
    return f'<div class="tiles">{tiles}</div>'


def _summary(metrics: Mapping[str, Any]) -> str:
    parts = []
    for title, aligned in (
        ("means of the frames, each aligned by itself", "per_frame"),
        ("one alignment for the whole recording", "recording"),
    ):
        rows: list[list[Any]] = [
            [camera, score["frames"], _ALIGNMENTS[alignment], *(errors[name] for name in _DEPTH_ERRORS)]
            for camera, score in metrics["depth"].items()
            for alignment, errors in score[aligned].items()
        ]
        if rows:
            parts.append(f"<h3>Depth: {title}</h3>")
            parts.append(table(("camera", "frames", "alignment", *_DEPTH_ERRORS.values()), rows))
    trajectory = metrics["trajectory"]
    if trajectory:
        rows = [
            [f"ATE (m), {_POSE_ALIGNMENTS[alignment]}", *((errors or {}).get(name) for name in _POSE_ERRORS)]
            for alignment, errors in trajectory["ate"].items()
        ]
        for key, text in (("rpe", "as it is"), ("rpe_scaled", "lengths scaled")):
            errors = trajectory[key] or {"translation": {}, "rotation_deg": {}}
            rows.append([f"RPE (m), {text}", *(errors["translation"].get(name) for name in _POSE_ERRORS)])
        errors = trajectory["rpe"] or {"rotation_deg": {}}
        rows.append(["RPE (\N{DEGREE SIGN})", *(errors["rotation_deg"].get(name) for name in _POSE_ERRORS)])
        parts.append(
            f"<h3>Poses: {trajectory['associated_poses']} of {trajectory['estimated_poses']} have a true one, "
            f"over {trajectory['path_length']:.3g} m</h3>"
        )
        parts.append(table(("error", *_POSE_ERRORS), rows))
        rows = [
            [f"continuity (m), {text}", *(trajectory[key][name] for name in _STEPS)]
            for key, text in (("continuity", "as it is"), ("continuity_scaled", "lengths scaled"))
            if trajectory[key]
        ]
        if rows:
            parts.append(table(("from one pose to the next", *_STEPS.values()), rows))
    aucs = [("whole recording", trajectory["auc"])] if trajectory and trajectory["auc"] else []
    if metrics["windows"]:
        aucs.append((f"within {metrics['windows']['count']} windows", metrics["windows"]["auc"]))
    if aucs:
        parts.append("<h3>Relative poses, AUC by threshold</h3>")
        parts.append(
            table(("", *(f"{key}\N{DEGREE SIGN}" for key in aucs[0][1])), [[name, *auc.values()] for name, auc in aucs])
        )
    consistent = {camera: found for camera, found in metrics["consistency"].items() if found["pairs"]}
    if consistent:
        parts.append("<h3>Depth of neighbouring frames, moved into each other (needs no truth)</h3>")
        parts.append(
            table(
                ("camera", *_CONSISTENCY.values()),
                [[camera, *(found[name] for name in _CONSISTENCY)] for camera, found in consistent.items()],
            )
        )
    views = metrics["novel_views"]
    if views:
        parts.append(
            f"<h3>{views['held_out']} views drawn from Gaussians of {views['views'] - views['held_out']} others</h3>"
        )
        rows = [["held out", views["psnr"], views["ssim"]], ["shown to it", views["kept_psnr"], views["kept_ssim"]]]
        parts.append(table(("", "PSNR (dB)", "SSIM"), rows))
        parts.append(f'<p class="dim">{escape(views["protocol"])}</p>')
    if metrics["surface"]:
        parts.append(f"<h3>Surface fused from {metrics['surface']['views']} views</h3>")
        parts.append(table(_SURFACE, [[metrics["surface"][name] for name in _SURFACE]]))
    return "".join(parts)


def _run(metrics: Mapping[str, Any]) -> str:
    run = dict(metrics["run"])
    latency, dropped = run.pop("latency_ms", {}), run.pop("dropped", {})
    evaluated, node, versions = (run.pop(name, {}) for name in SETTINGS)
    parts = [table(("", ""), [(_RUN.get(name, name), value) for name, value in run.items()], "settings")]
    if latency:
        parts.append("<h3>Latency (ms)</h3>")
        # The node tells no longest times.
        known = [name for name in _LATENCY if any(each.get(name) is not None for each in latency.values())]
        rows = [[stage, *(each.get(name) for name in known)] for stage, each in latency.items()]
        parts.append(table(("stage", *(_LATENCY[name] for name in known)), rows))
    notes = [*metrics["notes"], *((metrics["trajectory"] or {}).get("notes", ()))]
    notes += [f"lost: {text}" for text in metrics["lost"]] + [
        f"not used: {n} images of {what}" for what, n in dropped.items()
    ]
    if notes:
        parts.append(f"<h3>Notes</h3><ul class='notes'>{''.join(f'<li>{escape(text)}</li>' for text in notes)}</ul>")
    parts.append("<h3>Evaluated with</h3>" + _evaluated(evaluated))
    changed = chosen(node)
    if changed:
        parts.append("<h3>Parameters that are not the default</h3>" + table(("", ""), changed.items(), "settings"))
    parts.append("<h3>Versions</h3>" + table(("", ""), versions.items(), "settings"))
    return "".join(parts)


def _evaluated(settings: Mapping[str, Any]) -> str:
    """Tolerance, limits and where the truth is from; of several recordings what they have alike."""
    rows = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += [(_EVALUATED[name].format(camera), topic) for camera, topic in value.items()]
        elif name == "max_depth_m" and value is None:
            rows.append((_EVALUATED[name], "no limit"))
        else:
            rows.append((_EVALUATED[name], value))
    return table(("", ""), rows, "settings")
