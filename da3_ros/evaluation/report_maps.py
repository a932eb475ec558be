"""One depth example of the report as HTML: picture, estimate, truth, error and confidence side by side."""

from __future__ import annotations

from html import escape

import cv2
import numpy as np

from da3_ros.evaluation.report_examples import DepthExample, coloured, png_uri, value_range

_ERROR_SPAN = (0.0, 0.25)  # AbsRel: the same for all frames, so that they compare
_SPARSE = 0.1  # share of pixels with a value, below which each of them is drawn larger


def example_maps(why: str, example: DepthExample, start_ns: int) -> str:
    """A heading and the maps of ``example``; its time is counted from ``start_ns``."""
    title = f"{example.camera} at {(example.stamp_ns - start_ns) / 1e9:.2f} s"
    if np.isfinite(example.abs_rel):
        title += f": AbsRel {example.abs_rel:.3f} with the median aligned (depth times {example.scale:.3g})"
    if why:
        title += f", {why}"
    span = value_range(example.true if example.true is not None else example.depth)
    maps = []
    if example.picture is not None:
        maps.append(_figure(png_uri(example.picture), "picture", photo=True))
    maps.append(_map("estimated depth (m)", example.depth, span, cv2.COLORMAP_TURBO))
    if example.true is not None:
        maps.append(_map("true depth (m)", example.true, span, cv2.COLORMAP_TURBO))
    if example.error is not None:
        maps.append(_map("|estimated - true| / true", example.error, _ERROR_SPAN, cv2.COLORMAP_INFERNO))
    if example.confidence is not None:
        maps.append(_map("confidence", example.confidence, value_range(example.confidence), cv2.COLORMAP_VIRIDIS))
    return f'<h3>{escape(title)}</h3><div class="maps">{"".join(maps)}</div>'


def _map(name: str, values: np.ndarray, span: tuple[float, float], palette: int) -> str:
    """Values as colours, with the scale of colours below; grey has no value."""
    stops = cv2.applyColorMap(np.linspace(0, 255, 9).astype(np.uint8)[None], palette)[0, :, ::-1].tolist()
    gradient = ",".join(f"rgb({red},{green},{blue})" for red, green, blue in stops)
    scale = f'<i style="background:linear-gradient(to right,{gradient})"></i>'
    low, high = _ends(span)
    bar = f'<div class="bar">{low}{scale}{high}</div>'
    return _figure(png_uri(coloured(_visible(values), span, palette)), name, bar)


def _visible(values: np.ndarray) -> np.ndarray:
    """The same (h, w), with what few values a lidar has as squares that can be seen; a nearer pixel's value wins."""
    known = np.isfinite(values)
    if not 0 < known.mean() < _SPARSE:
        return values
    reach = max(1, max(values.shape) // 150)
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_C, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.full(int(nearest.max()) + 1, np.nan, values.dtype)
    by_label[nearest[known]] = values[known]
    near = cv2.dilate(known.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    return np.where(known | near, by_label[nearest], values)


def _ends(span: tuple[float, float]) -> tuple[str, str]:
    """Both ends of a scale in as many digits, three or more, as it takes to tell them apart."""
    digits = 3
    while digits < 8 and f"{span[0]:.{digits}g}" == f"{span[1]:.{digits}g}":
        digits += 1
    return f"{span[0]:.{digits}g}", f"{span[1]:.{digits}g}"


def _figure(uri: str, name: str, below: str = "", photo: bool = False) -> str:
    kind = ' class="photo"' if photo else ""
    return (
        f'<figure><img{kind} alt="{escape(name)}" src="{uri}">{below}<figcaption>{escape(name)}</figcaption></figure>'
    )
