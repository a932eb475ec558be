"""Planning: what part of each camera's image the network sees, at what size, and the intrinsics of that view.

Every view shares one canvas. A camera's content keeps its aspect ratio to within the rounding of its sides to
multiples of 14 (fx and fy follow that rounding exactly), or loses a margin instead (``*_crop``), and lies in the
middle of the canvas; the rest is padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from da3_ros.config import CameraConfig
from da3_ros.datatypes import CameraCalibration, View
from da3_ros.errors import FrameError
from da3_ros.geometry import rectify
from da3_ros.geometry.resample import PATCH, Pass, Sizing, area_matrix, network_size, resize_passes, to_taps

# A principal point within this many network pixels of the image's middle counts as centred: the whole image
# is used, as the reference does, and K tells the small rest.
CENTRED_TOLERANCE = 0.5
_SMALLEST_SEEN = 0.05  # views that show less of the image than this are refused


@dataclass(frozen=True, eq=False)
class Resampling:
    """Content by separable resampling of the image: the ``passes`` one after the other."""

    passes: tuple[Pass, ...]


@dataclass(frozen=True, eq=False)
class Rectification:
    """Content by sampling at ``grid`` from the image resampled with ``passes``, ``samples`` squared per pixel and
    averaged.

    ``grid``: (h * samples, w * samples, 2) float32, x and y in -1 to 1 from edge to edge of the image.
    """

    passes: tuple[Pass, ...]
    grid: np.ndarray
    samples: int


@dataclass(frozen=True, eq=False)
class ViewPlan:
    """How images of one camera become its view.

    ``lost_fraction``: share of the image's area that the view does not show (0 to 1). ``box``: (top, left,
    height, width) of the content in pixels of the pinhole image of input size, from the outer edge of its
    first pixel; that image has the calibrated K and no distortion. Every pixel of the content is seen by the
    camera.
    """

    view: View
    input_hw: tuple[int, int]
    calibration: CameraCalibration | None
    lost_fraction: float
    box: tuple[float, float, float, float]
    recipe: Resampling | Rectification

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Input-size pixels per content pixel, vertically and horizontally."""
        return self.box[2] / self.view.content[2], self.box[3] / self.view.content[3]


def plan_views(
    cameras: Mapping[str, tuple[tuple[int, int], CameraCalibration | None]],
    process_res: int,
    max_fov_deg: Mapping[str, float],
    process_res_method: str = "upper_bound_resize",
) -> dict[str, ViewPlan]:
    """Plan the views of ``cameras``: name -> (image height and width, calibration or None).

    ``process_res``: a side of each camera's content in pixels, which one and how both then become multiples of
    14 says ``process_res_method`` (see ``network_size``). ``max_fov_deg``: widest field of view of a rectified
    view; cameras left out get the default of the configuration. The view of an uncalibrated camera has NaN
    intrinsics.

    Raises FrameError (``calibration``) when a calibration does not belong to the size, or leaves no usable
    view, FrameError (``size``) when a crop would leave nothing of an image, and InputError for a method that
    there is not.
    """
    target = (process_res, process_res_method)
    contents = {
        name: _content(name, size_hw, calibration, target, max_fov_deg.get(name, CameraConfig().max_fov_deg))
        for name, (size_hw, calibration) in cameras.items()
    }
    canvas = tuple(max(content.size_hw[axis] for content in contents.values()) for axis in (0, 1))
    return {name: _place(name, content, (canvas[0], canvas[1])) for name, content in contents.items()}


@dataclass(frozen=True, eq=False)
class _Content:
    """One camera's content before its place on the canvas is known; fields as in ViewPlan."""

    size_hw: tuple[int, int]
    K: np.ndarray
    input_hw: tuple[int, int]
    calibration: CameraCalibration | None
    lost_fraction: float
    box: tuple[float, float, float, float]
    recipe: Resampling | Rectification


def _place(name: str, content: _Content, canvas_hw: tuple[int, int]) -> ViewPlan:
    height, width = content.size_hw
    # All sides are multiples of 14, so the margins are equal and the middle stays the middle.
    top, left = (canvas_hw[0] - height) // 2, (canvas_hw[1] - width) // 2
    K = content.K.copy()
    K[:2, 2] += left, top
    view = View(name, canvas_hw, (top, left, height, width), K, calibrated=content.calibration is not None)
    return ViewPlan(view, content.input_hw, content.calibration, content.lost_fraction, content.box, content.recipe)


def _content(
    name: str,
    input_hw: tuple[int, int],
    calibration: CameraCalibration | None,
    target: tuple[int, str],
    max_fov_deg: float,
) -> _Content:
    if calibration is not None and (calibration.height, calibration.width) != tuple(input_hw):
        raise FrameError(
            name,
            "calibration",
            f"its image has {input_hw[1]}x{input_hw[0]} pixels, but its calibration is for {calibration.width}x"
            f"{calibration.height}: use the CameraInfo that belongs to this image",
        )
    if calibration is not None and calibration.distorted:
        content = _rectified(name, calibration, target, max_fov_deg)
    else:
        content = _resampled(name, input_hw, calibration, target)
    if 1.0 - content.lost_fraction < _SMALLEST_SEEN:
        raise _no_view(name, content.calibration)
    return content


def _no_view(name: str, calibration: CameraCalibration | None) -> FrameError:
    assert calibration is not None
    cx, cy = calibration.K[0, 2], calibration.K[1, 2]
    return FrameError(
        name,
        "calibration",
        f"the principal point ({cx:.1f}, {cy:.1f}) is outside the {calibration.width}x{calibration.height} image or "
        "too near its border for a view about it: check CameraInfo and its region of interest",
    )


def _resampled(
    name: str, input_hw: tuple[int, int], calibration: CameraCalibration | None, target: tuple[int, str]
) -> _Content:
    """Content of an image without distortion: the box about the principal point, or all of a centred image."""
    top, height = 0.0, float(input_hw[0])
    left, width = 0.0, float(input_hw[1])
    if calibration is not None:
        cx, cy = calibration.K[:2, 2].tolist()
        scale = max(network_size(input_hw, *target).scaled_hw) / max(input_hw)
        top, height = _symmetric(input_hw[0], cy, scale)
        left, width = _symmetric(input_hw[1], cx, scale)
        if min(height, width) <= 0.0:
            raise _no_view(name, calibration)
    sizing = _sizing(name, (height, width), target)
    recipe = Resampling(resize_passes(input_hw, (top, left, height, width), *target))
    size_hw, box = sizing.final_hw, sizing.shown((top, left, height, width))
    K = np.full((3, 3), np.nan) if calibration is None else _scaled_K(calibration.K, box, size_hw)
    lost = 1.0 - box[2] * box[3] / (input_hw[0] * input_hw[1])
    return _Content(size_hw, K, input_hw, calibration, lost, box, recipe)


def _sizing(name: str, box_hw: tuple[float, float], target: tuple[int, str]) -> Sizing:
    sizing = network_size(box_hw, *target)
    if min(sizing.final_hw) == 0:
        height, width = sizing.scaled_hw
        raise FrameError(
            name,
            "size",
            f"its view is {width}x{height} pixels at process_res {target[0]}, and model.process_res_method {target[1]} "
            f"cuts it to multiples of {PATCH}: use a *_resize method or a larger model.process_res",
        )
    return sizing


def _symmetric(pixels: int, centre: float, scale: float) -> tuple[float, float]:
    """Start and extent of the largest part of an axis with ``centre`` in its middle; all of it when that is near."""
    middle = centre + 0.5
    if abs(middle - pixels / 2.0) * scale <= CENTRED_TOLERANCE:
        return 0.0, float(pixels)
    half = min(middle, pixels - middle)
    return middle - half, 2.0 * half


def _scaled_K(K: np.ndarray, box: tuple[float, float, float, float], size_hw: tuple[int, int]) -> np.ndarray:
    """Intrinsics of ``box`` resampled to ``size_hw``."""
    sx, sy = size_hw[1] / box[3], size_hw[0] / box[2]
    scaled = np.eye(3)
    scaled[0] = K[0, 0] * sx, 0.0, (K[0, 2] + 0.5 - box[1]) * sx - 0.5
    scaled[1] = 0.0, K[1, 1] * sy, (K[1, 2] + 0.5 - box[0]) * sy - 0.5
    return scaled


def _rectified(name: str, calibration: CameraCalibration, target: tuple[int, str], max_fov_deg: float) -> _Content:
    """Content of a distorted image: the widest pinhole view that the image fills."""
    window = rectify.widest_window(calibration, max_fov_deg)
    if window is None:
        raise _no_view(name, calibration)
    K = calibration.K
    (fx, cx), (fy, cy) = K[0, [0, 2]].tolist(), K[1, [1, 2]].tolist()
    sizing = _sizing(name, (2.0 * window.half_height * fy, 2.0 * window.half_width * fx), target)
    size_hw = sizing.final_hw
    if sizing.crop:  # about the principal point exactly: here nothing ties the pixels to those of the image
        (scaled_h, scaled_w), (h, w) = sizing.scaled_hw, sizing.final_hw
        window = rectify.PinholeWindow(window.half_width * w / scaled_w, window.half_height * h / scaled_h)
    half_h, half_w = window.half_height * fy, window.half_width * fx
    box = (cy + 0.5 - half_h, cx + 0.5 - half_w, 2.0 * half_h, 2.0 * half_w)
    lost = 1.0 - rectify.seen_fraction(calibration, window)
    recipe = _rectification(calibration, window, size_hw)
    input_hw = (calibration.height, calibration.width)
    return _Content(size_hw, _scaled_K(K, box, size_hw), input_hw, calibration, max(0.0, lost), box, recipe)


def _rectification(
    calibration: CameraCalibration, window: rectify.PinholeWindow, size_hw: tuple[int, int]
) -> Rectification:
    shrink, samples = rectify.antialiasing(rectify.sampling_grid(calibration, window, size_hw))
    grid = rectify.sampling_grid(calibration, window, (size_hw[0] * samples, size_hw[1] * samples))
    input_hw = np.array([calibration.height, calibration.width])
    rows, columns = (
        to_taps(area_matrix(pixels, max(1, round(pixels / shrink)), 0.0, float(pixels))) for pixels in input_hw
    )
    unit = (grid + 0.5) / input_hw[::-1] * 2.0 - 1.0
    return Rectification((Pass(rows, columns),), unit.astype(np.float32), samples)
