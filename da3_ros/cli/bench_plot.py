"""Plots of how the cost of a step grows, and their points as CSV."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from da3_ros.cli.bench_growth import GrowthPoint
from da3_ros.errors import UnavailableError

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_COLOURS = {
    "da3-nano": "#E69F00",
    "da3-small": "#0072B2",
    "da3-base": "#009E73",
    "da3-large": "#D55E00",
    "da3-giant": "#CC79A7",
}
_AXES = {
    "views": ("Views in the window (one new per step)", "Longer windows"),
    "cameras": ("Cameras (all new in each step, windows of 4 sets)", "More cameras"),
    "size": ("Longest side of the network's images in pixels (8 views, one new)", "Larger images"),
}
_FRAME_MS = 1000 / 30


def require_matplotlib() -> None:
    """Raise UnavailableError where it is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UnavailableError("--plot needs matplotlib, which is not installed here: pip install matplotlib")


def write_csv(points: Sequence[GrowthPoint], path: Path) -> None:
    """One line for each point."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [item.name for item in fields(GrowthPoint)], lineterminator="\n")
        writer.writeheader()
        for point in points:
            writer.writerow(
                {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in asdict(point).items()}
            )


def draw_growth(points: Sequence[GrowthPoint], machine: str, folder: Path) -> list[Path]:
    """One picture for each sweep in ``points``; returns the files."""
    import matplotlib

    matplotlib.use("Agg")
    return [
        _draw(sweep, [point for point in points if point.sweep == sweep], machine, folder / f"growth-{sweep}.png")
        for sweep in _AXES
        if any(point.sweep == sweep for point in points)
    ]


def _draw(sweep: str, points: Sequence[GrowthPoint], machine: str, path: Path) -> Path:
    """Milliseconds over ``sweep``, both logarithmic: our step solid, its arithmetic dotted, the reference dashed."""
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter

    label, title = _AXES[sweep]
    figure, axes = pyplot.subplots(figsize=(7.5, 4.6), dpi=150)
    figure.set_layout_engine("constrained", rect=(0, 0.025, 1, 0.975))
    variants = list(dict.fromkeys(point.variant for point in points))
    for variant in variants:
        own = [point for point in points if point.variant == variant]
        x, colour = [point.x for point in own], _COLOURS[variant]
        axes.plot(x, [point.step for point in own], color=colour, marker="o", markersize=4.5, linewidth=1.8)
        axes.plot(x, [point.floor for point in own], color=colour, linestyle=":", linewidth=1.2)
        compared = [(point.x, point.reference_call) for point in own if point.reference_call is not None]
        axes.plot(
            [x for x, _ in compared], [call for _, call in compared],
            "s--", color=colour, markersize=3.5, linewidth=1.2, alpha=0.75,
        )  # fmt: skip
        axes.annotate(
            variant, (x[-1], own[-1].step), xytext=(7, 0), textcoords="offset points", color=colour, va="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            fontsize=9,
        )  # fmt: skip
    axes.axhline(_FRAME_MS, color="0.6", linewidth=0.8)
    axes.annotate(
        "30 Hz", (0, _FRAME_MS), xycoords=("axes fraction", "data"), xytext=(4, 3), textcoords="offset points",
        color="0.4", fontsize=8,
    )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({point.x for point in points})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(ticks[0] / 1.08, ticks[-1] * (ticks[-1] / ticks[0]) ** 0.17)
    axes.set_xlabel(label)
    axes.set_ylabel("Milliseconds per step")
    axes.set_title(f"{title}: a step from host to host", loc="left", fontsize=11, fontweight="bold")
    axes.grid(True, which="major", color="0.9", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    styles = {"our step": "o-", "its arithmetic at the rate of a large matrix product": ":"}
    if any(point.reference_call is not None for point in points):
        styles["the reference's whole call"] = "s--"
    for text, style in styles.items():
        axes.plot([], [], style, color="0.3", markersize=4, linewidth=1.2, label=text)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    figure.text(0.995, 0.004, machine, ha="right", va="bottom", fontsize=6.5, color="0.45")
    figure.savefig(path)
    pyplot.close(figure)
    return path
