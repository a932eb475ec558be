"""Line charts as SVG text for the report: no script, no file beside it, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_LEFT, _RIGHT, _TOP, _BOTTOM = 58.0, 14.0, 12.0, 42.0  # margins around the plot, in the SVG's units


@dataclass(frozen=True)
class Series:
    """One line: ``x`` and ``y`` (n,), None or NaN: a gap. ``colour``: 1 to 4 of the style sheet; ``dots``: marks."""

    label: str
    x: Sequence[float | None]
    y: Sequence[float | None]
    colour: int
    dashed: bool = False
    dots: bool = False


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    size: tuple[int, int] = (560, 260),
    equal: bool = False,
    from_zero: bool = False,
) -> str:
    """An SVG of ``size`` with a legend of buttons below, which the page's script makes show and hide lines.

    ``equal``: one unit is equally long on both axes, as on a map. ``from_zero``: the y axis begins at 0.
    """
    lines = [(each, np.array(each.x, dtype=np.float64), np.array(each.y, dtype=np.float64)) for each in series]
    x_span = _span([x for _, x, _ in lines])
    y_span = _span([y for _, _, y in lines] + ([np.zeros(1)] if from_zero else []))
    width, height = size[0] - _LEFT - _RIGHT, size[1] - _TOP - _BOTTOM
    if equal:
        unit = max((x_span[1] - x_span[0]) / width, (y_span[1] - y_span[0]) / height)
        x_span, y_span = _widened(x_span, unit * width), _widened(y_span, unit * height)
    if from_zero:
        y_span = 0.0, y_span[1]

    def place(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        u = _LEFT + (x - x_span[0]) / (x_span[1] - x_span[0]) * width
        v = _TOP + height - (y - y_span[0]) / (y_span[1] - y_span[0]) * height
        return np.stack((u, v), axis=-1)

    parts = [f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{escape(f"{y_label} over {x_label}")}">']
    for value in _ticks(*x_span, 6):
        u = place(np.array(value), np.array(0.0))[0]
        parts.append(f'<line class="grid" x1="{u:.1f}" x2="{u:.1f}" y1="{_TOP}" y2="{_TOP + height}"/>')
        parts.append(_text("tick", u, _TOP + height + 15, "middle", f"{value:g}"))
    for value in _ticks(*y_span, 5):
        v = place(np.array(0.0), np.array(value))[1]
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + width}" y1="{v:.1f}" y2="{v:.1f}"/>')
        parts.append(_text("tick", _LEFT - 6, v + 3.5, "end", f"{value:g}"))
    parts.append(_text("label", _LEFT + width / 2, size[1] - 8, "middle", x_label))
    parts.append(
        f'<text class="label" transform="translate(13 {_TOP + height / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    parts += [_line(each, place(x, y), number) for number, (each, x, y) in enumerate(lines)]
    legend = "".join(
        f'<button type="button" class="key" aria-pressed="true" data-line="{number}">'
        f'<i class="c{each.colour}{" dashed" if each.dashed else ""}"></i>{escape(each.label)}</button>'
        for number, each in enumerate(series)
    )
    return f'<figure class="chart">{"".join(parts)}</svg><div class="legend">{legend}</div></figure>'


def _text(kind: str, u: float, v: float, anchor: str, text: str) -> str:
    return f'<text class="{kind}" x="{u:.1f}" y="{v:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(series: Series, points: np.ndarray, number: int) -> str:
    """Path through the finite ``points`` (n, 2), broken where there is none."""
    path, pen = [], "M"
    for u, v in points.tolist():
        if math.isfinite(u) and math.isfinite(v):
            path.append(f"{pen}{u:.1f} {v:.1f}")
            pen = "L"
        else:
            pen = "M"
    style = f"c{series.colour}{' dashed' if series.dashed else ''}"
    marks = ""
    if series.dots or len(path) == 1:
        marks = "".join(
            f'<circle class="{style}" cx="{u:.1f}" cy="{v:.1f}" r="3"><title>{escape(series.label)}: {y:.4g} at {x:.4g}'
            "</title></circle>"
            for (u, v), x, y in zip(points.tolist(), series.x, series.y, strict=True)
            if x is not None and y is not None and math.isfinite(v)
        )
    return f'<g data-line="{number}"><path class="line {style}" d="{"".join(path)}"/>{marks}</g>'


def _span(values: Sequence[np.ndarray]) -> tuple[float, float]:
    """Least and greatest of the finite values with a little room; never empty."""
    finite = np.concatenate([each[np.isfinite(each)] for each in values] or [np.empty(0)])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    room = 0.04 * (high - low) or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _widened(span: tuple[float, float], length: float) -> tuple[float, float]:
    middle = (span[0] + span[1]) / 2
    return middle - length / 2, middle + length / 2


def _ticks(low: float, high: float, about: int) -> list[float]:
    """Round values from ``low`` to ``high``, 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    # Rounded, as 3 * 0.1 is not 0.3.
    return [float(f"{index * step:.12g}") for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
