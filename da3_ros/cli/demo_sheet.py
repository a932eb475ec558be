"""One picture of a whole run: for several moments and every camera image, true depth, depth and confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Anchor colours, evenly spaced: near or low first.
_DEPTH_ANCHORS = ((252, 246, 170), (253, 174, 66), (228, 88, 70), (150, 33, 120), (74, 20, 130), (18, 12, 66))
_CONFIDENCE_ANCHORS = ((42, 12, 66), (52, 78, 138), (33, 143, 140), (96, 200, 98), (250, 230, 60))
_INVALID = (58, 58, 62)
_SKY = (150, 190, 225)

_PAGE = (24, 25, 28)
_TEXT = (235, 235, 235)
_FAINT = (165, 168, 175)
_WARNING = (255, 176, 60)
_TEXT_SIZE = 17
_GAP = 6
_LABEL = 100  # width of the column with the rows' names
_BAR = 20  # height of the line with range and colour bar below a map
_PAGE_WIDTH = 2000
_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Panels:
    """What there is of one camera at one moment: ``rgb`` (H, W, 3) uint8, the maps (h, w) float32 or None.

    ``region``: the part of the image that ``depth`` and ``confidence`` show, as left, top, right, bottom in fractions
    of its size.
    """

    rgb: np.ndarray
    true_depth: np.ndarray | None
    depth: np.ndarray | None
    confidence: np.ndarray | None
    region: tuple[float, float, float, float] = _WHOLE


def draw_sheet(
    path: Path, title: str, lines: Sequence[str], warning: str, moments: Sequence[tuple[str, Mapping[str, Panels]]],
    unit: str,
) -> None:  # fmt: skip
    """Write the contact sheet to ``path`` (PNG).

    ``lines`` stand below ``title``, ``warning`` (may be empty) in colour below them. ``moments``: a name and the
    panels by camera, all with the same cameras. ``unit`` of depth: ``m``, or empty when the depth is not metric.
    """
    cameras = list(moments[0][1])
    with_truth = any(panels.true_depth is not None for _, shown in moments for panels in shown.values())
    confident = any(panels.confidence is not None for _, shown in moments for panels in shown.values())
    rows = ["image", *(["true depth"] if with_truth else []), "depth", *(["confidence"] if confident else [])]
    per_line = len(moments) if len(cameras) * len(moments) <= 9 else 1
    columns = per_line * len(cameras)
    width = (_PAGE_WIDTH - _LABEL - _GAP * (columns + per_line)) // columns
    aspect = max(panels.rgb.shape[0] / panels.rgb.shape[1] for panels in moments[0][1].values())
    width = min(width, 420, int(420 / aspect))
    cell = (width, round(width * aspect))
    block = _block_height(rows, cell)
    page_width = max(_LABEL + columns * (width + _GAP) + per_line * 3 * _GAP, 900)
    texts = [(part, _FAINT) for line in lines for part in _wrapped(line, page_width - 4 * _GAP)]
    texts += [(part, _WARNING) for part in _wrapped(warning, page_width - 4 * _GAP)]
    head = 52 + 24 * len(texts)
    page = Image.new("RGB", (page_width, head + -(-len(moments) // per_line) * block + _GAP), _PAGE)
    draw = ImageDraw.Draw(page)
    draw.text((_GAP * 2, 10), title, _TEXT, _font(26))
    for number, (text, colour) in enumerate(texts):
        draw.text((_GAP * 2, 48 + 24 * number), text, colour, _font(_TEXT_SIZE))
    for number, (name, shown) in enumerate(moments):
        left = _LABEL + number % per_line * (len(cameras) * (width + _GAP) + 3 * _GAP)
        top = head + number // per_line * block
        _draw_moment(page, (left, top), cell, name, shown, rows, unit, labels=number % per_line == 0)
    page.save(path, optimize=True)


def _block_height(rows: Sequence[str], cell: tuple[int, int]) -> int:
    return 26 + len(rows) * (cell[1] + _GAP) + (len(rows) - 1) * _BAR + 2 * _GAP


def _draw_moment(
    page: Image.Image, corner: tuple[int, int], cell: tuple[int, int], name: str, shown: Mapping[str, Panels],
    rows: Sequence[str], unit: str, *, labels: bool,
) -> None:  # fmt: skip
    draw = ImageDraw.Draw(page)
    for column, (camera, panels) in enumerate(shown.items()):
        left, top = corner[0] + column * (cell[0] + _GAP), corner[1]
        heading = f"{camera}   {name}" if column == 0 else camera
        draw.text((left, top), heading, _TEXT, _font(16))
        top += 26
        for row in rows:
            if labels and column == 0:
                draw.text((_GAP * 2, top + cell[1] // 2 - 9), row, _FAINT, _font(16))
            if row == "image":
                _paste(page, panels.rgb, (left, top), cell)
                top += cell[1] + _GAP
                continue
            values = {"true depth": panels.true_depth, "depth": panels.depth, "confidence": panels.confidence}[row]
            # Where the image is in the cell, and in it the part that the map shows.
            frame = _fit(panels.rgb.shape[1], panels.rgb.shape[0], (left, top), cell)
            region = _WHOLE if row == "true depth" else panels.region
            _draw_map(
                page, values, (left, top), cell, _part(frame, region), row == "confidence",
                "m" if row == "true depth" else unit,
            )  # fmt: skip
            top += cell[1] + _BAR + _GAP


def _draw_map(
    page: Image.Image, values: np.ndarray | None, corner: tuple[int, int], cell: tuple[int, int],
    place: tuple[int, int, int, int], confidence: bool, unit: str,
) -> None:  # fmt: skip
    """A map in colours at ``place`` (left, top, width, height) in its cell, below it the range that they span."""
    draw = ImageDraw.Draw(page)
    left, top = corner
    span = None if values is None else _range(values)
    draw.rectangle((left, top, left + cell[0] - 1, top + cell[1] - 1), _PAGE if span else _INVALID)
    if values is None or span is None:
        text = "none" if values is None else "no valid pixel"
        draw.text((left + 8, top + 8), text, _FAINT, _font(15))
        return
    small = _thicken_sparse(values, place[3])
    picture = Image.fromarray(colour_map(small, span, confidence))
    page.paste(picture.resize(place[2:], Image.Resampling.LANCZOS), place[:2])
    bar = np.linspace(span[0], span[1], 64, dtype=np.float32)[None]
    bar_width = min(80, cell[0] // 3)
    strip = Image.fromarray(colour_map(bar, span, confidence)).resize((bar_width, 10))
    page.paste(strip, (left, top + cell[1] + 5))
    text = f"{_number(span[0])} to {_number(span[1])}{' ' + unit if unit else ''}"
    draw.text((left + bar_width + 6, top + cell[1] + 1), text, _FAINT, _font(14))


def _thicken_sparse(values: np.ndarray, height: int) -> np.ndarray:
    """``values``, or where few pixels are valid (LiDAR) a smaller map of the nearest point around each place.

    Reduced like a picture, lone points would fade away.
    """
    if np.isfinite(values).mean() > 0.4:
        return values
    block = max(1, values.shape[0] // height)
    rows, columns = values.shape[0] // block, values.shape[1] // block
    far = np.where(np.isfinite(values), values, np.inf)[: rows * block, : columns * block]
    nearest = far.reshape(rows, block, columns, block).min((1, 3))
    padded = np.pad(nearest, 1, constant_values=np.inf)
    around = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    nearest = np.minimum.reduce(around)
    return np.where(np.isfinite(nearest), nearest, np.nan)


def colour_map(values: np.ndarray, span: tuple[float, float], confidence: bool) -> np.ndarray:
    """(H, W, 3) uint8 colours of ``values`` (H, W): depth in equal steps of its logarithm, near is light.

    NaN is grey, +Inf (sky) light blue; values outside ``span`` take the colour of its end.
    """
    low, high = span
    finite = np.isfinite(values)
    safe = np.clip(np.where(finite, values, low), low, high)
    if confidence or low <= 0:
        part = (safe - low) / max(high - low, 1e-9)
    else:
        part = np.log(safe / low) / max(np.log(high / low), 1e-9)
    anchors = np.array(_CONFIDENCE_ANCHORS if confidence else _DEPTH_ANCHORS, dtype=np.float64)
    position = np.clip(part, 0.0, 1.0) * (len(anchors) - 1)
    index = np.minimum(position.astype(int), len(anchors) - 2)
    rest = (position - index)[..., None]
    colours = anchors[index] * (1 - rest) + anchors[index + 1] * rest
    colours[~finite] = _INVALID
    colours[np.isposinf(values)] = _SKY
    return (colours + 0.5).astype(np.uint8)


def _range(values: np.ndarray) -> tuple[float, float] | None:
    """The 2nd and 98th percentile of the finite values; None where there are none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = np.percentile(finite, (2, 98)).tolist()
    return low, max(high, low + 1e-6)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _paste(page: Image.Image, pixels: np.ndarray, corner: tuple[int, int], cell: tuple[int, int]) -> None:
    """``pixels`` as large as fits into the cell, in its middle."""
    left, top, width, height = _fit(pixels.shape[1], pixels.shape[0], corner, cell)
    page.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS), (left, top))


def _fit(width: int, height: int, corner: tuple[int, int], cell: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width, height of a picture of this size when it is as large as fits into the cell."""
    scale = min(cell[0] / width, cell[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return corner[0] + (cell[0] - size[0]) // 2, corner[1] + (cell[1] - size[1]) // 2, *size


def _part(frame: tuple[int, int, int, int], region: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """The part ``region`` (fractions) of ``frame`` (left, top, width, height), kept within it."""
    x0, y0, x1, y1 = np.clip(region, 0.0, 1.0).tolist()
    left, top = frame[0] + round(x0 * frame[2]), frame[1] + round(y0 * frame[3])
    return left, top, max(1, round((x1 - x0) * frame[2])), max(1, round((y1 - y0) * frame[3]))


def _wrapped(text: str, width: int) -> list[str]:
    """``text`` in lines that are at most ``width`` pixels wide."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _font(_TEXT_SIZE).getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
