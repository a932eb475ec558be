"""Several recordings in one report: one table of all, with what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from da3_ros.evaluation.report_table import Link, table

_COLUMNS = ("frames", "AbsRel", "aligned", "\N{GREEK SMALL LETTER DELTA}1 aligned", "ATE (m)", "AUC@30", "scale error",
            "parts")  # fmt: skip
ALL_RECORDINGS = "recordings"  # id of their table


def recording_row(metrics: Mapping[str, Any]) -> list[Any]:
    """The main numbers of one recording, in the order of the columns; depth is the mean of its cameras."""
    depth = [score["per_frame"] for score in metrics["depth"].values()]
    trajectory = metrics["trajectory"] or {}
    ate = (trajectory.get("ate") or {}).get("se3") or {}
    return [
        metrics["frames"],
        _mean([score["none"]["abs_rel"] for score in depth]),
        _mean([score["median"]["abs_rel"] for score in depth]),
        _mean([score["median"]["delta1"] for score in depth]),
        ate.get("rmse"),
        (trajectory.get("auc") or {}).get("30"),
        trajectory.get("scale_error"),
        metrics.get("segments", 1),
    ]


def anchor(number: int) -> str:
    """Id of the part of the page that shows the recording of this number, counted from 0."""
    return f"recording-{number + 1}"


def recordings_table(metrics: Mapping[str, Any], shown: Sequence[str]) -> str:
    """HTML of all recordings of ``metrics``, and of what could not be evaluated.

    ``shown``: names of those that the page has a part about, in the order of these; their names lead there.
    """
    links = {name: Link(name, anchor(number)) for number, name in enumerate(shown)}
    rows = [[links.get(name, name), *recording_row(each)] for name, each in metrics["recordings"].items()]
    parts = [
        "<p class='dim'>AbsRel: means of the frames of all cameras, as they are and with the medians aligned. ATE: "
        "after rotation and shift. Parts: pieces that were scored each by itself.</p>",
        f'<div id="{ALL_RECORDINGS}">{table(("recording", *_COLUMNS), rows)}</div>',
    ]
    if metrics["failed"]:
        lines = "".join(f"<li>{escape(text)}</li>" for text in map(failure_text, metrics["failed"]))
        parts.append(f"<h3>Failed: the numbers above do not know of this</h3><ul class='notes failed'>{lines}</ul>")
    if metrics["retried"]:
        lines = "".join(f"<li>{escape(text)}</li>" for text in metrics["retried"])
        parts.append(f"<h3>Tried again</h3><ul class='notes'>{lines}</ul>")
    return "".join(parts)


def failure_text(failed: Mapping[str, Any]) -> str:
    """One line for people."""
    part = f", part {failed['segment'] + 1} of {failed['segments']}" if failed["segments"] > 1 else ""
    times = f" (after {failed['attempts']} attempts)" if failed["attempts"] > 1 else ""
    return f"{failed['recording']}{part}{times}: {failed['error']}"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
