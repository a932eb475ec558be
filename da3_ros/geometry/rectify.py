"""Rectification: the widest pinhole view about the optical axis that a distorted image fills, and its sampling grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from da3_ros.datatypes import CameraCalibration
from da3_ros.geometry.distortion import distort

_FOLD_STEPS = 4096  # radii tested for a model that turns back
_BORDER_SAMPLES = 64  # rays tested on each half side of the view
_LARGEST_SUPERSAMPLING = 4
_BILINEAR_REACH = 1.5  # input pixels per sample up to which bilinear sampling does not alias visibly


@dataclass(frozen=True)
class PinholeWindow:
    """A view centred on the optical axis: rays with |x / z| <= ``half_width`` and |y / z| <= ``half_height``."""

    half_width: float
    half_height: float


def widest_window(calibration: CameraCalibration, max_fov_deg: float) -> PinholeWindow | None:
    """The largest window of which every ray hits the image; None when the principal point is not inside the image.

    It reaches as far as the image does along the two axes, at most ``max_fov_deg`` wide and high, and is then
    made smaller in proportion until its corners hit the image too.
    """
    limit = math.tan(math.radians(max_fov_deg) / 2.0)
    fold = _fold_radius(calibration, limit * math.sqrt(2.0))

    def hits(rays: np.ndarray) -> bool:
        pixels = pixels_of_rays(rays, calibration)
        inside = (pixels >= -0.5) & (pixels <= np.array([calibration.width, calibration.height]) - 0.5)
        return bool(inside.all() and (np.linalg.norm(rays, axis=-1) < fold).all())

    across, down = np.array([[-1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, -1.0], [0.0, 1.0]])
    half_width = _largest(lambda t: hits(t * across), limit)
    half_height = _largest(lambda t: hits(t * down), limit)
    border = window_border(PinholeWindow(half_width, half_height))
    share = _largest(lambda t: hits(t * border), 1.0)
    if min(share, half_width, half_height) <= 0.0:
        return None
    return PinholeWindow(share * half_width, share * half_height)


def _largest(holds: Callable[[float], bool], limit: float) -> float:
    """The largest t in [0, limit] with ``holds(t)``, true up to some t and false beyond; 0 if there is none."""
    if holds(limit):
        return limit
    low, high = 0.0, limit
    for _ in range(40):
        middle = (low + high) / 2.0
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low if holds(low) else 0.0


def _fold_radius(calibration: CameraCalibration, limit: float) -> float:
    """The radius x / z at which a polynomial model turns back and would show one pixel twice; inf if beyond limit."""
    r = np.linspace(0.0, limit, _FOLD_STEPS + 1)
    radial = tuple(0.0 if i in (2, 3) and calibration.distortion_model != "equidistant" else value
                   for i, value in enumerate(calibration.D))  # fmt: skip
    distorted = distort(np.stack((r, np.zeros_like(r)), axis=-1), radial, calibration.distortion_model)[:, 0]
    turns = np.diff(distorted) <= 0.0
    return float(r[np.argmax(turns)]) if turns.any() else math.inf


def pixels_of_rays(rays: np.ndarray, calibration: CameraCalibration) -> np.ndarray:
    """Pixels (u, v) of the distorted image, (..., 2), hit by the rays (x / z, y / z)."""
    distorted = distort(rays, calibration.D, calibration.distortion_model)
    K = calibration.K
    return distorted * (K[0, 0], K[1, 1]) + (K[0, 2], K[1, 2])


def window_border(window: PinholeWindow) -> np.ndarray:
    """Rays along the border of ``window``, once around, (n, 2)."""
    t = np.linspace(-1.0, 1.0, 2 * _BORDER_SAMPLES, endpoint=False)
    one = np.ones_like(t)
    around = np.concatenate([np.stack(side, -1) for side in ((t, -one), (one, t), (-t, one), (-one, -t))])
    return around * (window.half_width, window.half_height)


def seen_fraction(calibration: CameraCalibration, window: PinholeWindow) -> float:
    """Share of the distorted image's area that lies within ``window``."""
    u, v = (pixels_of_rays(window_border(window), calibration) + 0.5).T
    area = 0.5 * abs(np.dot(u, np.roll(v, -1)) - np.dot(v, np.roll(u, -1)))
    return float(area / (calibration.width * calibration.height))


def sampling_grid(calibration: CameraCalibration, window: PinholeWindow, size_hw: tuple[int, int]) -> np.ndarray:
    """Pixels (u, v) of the distorted image for every pixel of a view of ``size_hw``, (h, w, 2)."""
    y = ((np.arange(size_hw[0]) + 0.5) / size_hw[0] * 2.0 - 1.0) * window.half_height
    x = ((np.arange(size_hw[1]) + 0.5) / size_hw[1] * 2.0 - 1.0) * window.half_width
    rays = np.stack(np.broadcast_arrays(x[None, :], y[:, None]), axis=-1)
    return pixels_of_rays(rays, calibration)


def sampling_density(grid: np.ndarray) -> tuple[float, float]:
    """Input pixels per output pixel where ``grid`` (h, w, 2) is finest and coarsest (5th and 95th percentile)."""
    steps = [np.linalg.norm(np.diff(grid, axis=axis), axis=-1).ravel() for axis in (0, 1)]
    return min(float(np.percentile(s, 5)) for s in steps), max(float(np.percentile(s, 95)) for s in steps)


def antialiasing(grid: np.ndarray) -> tuple[float, int]:
    """How to sample ``grid`` without aliasing: by how much to shrink the image first, and samples per pixel side."""
    finest, coarsest = sampling_density(grid)
    shrink = max(1.0, finest)
    samples = math.ceil(coarsest / (_BILINEAR_REACH * shrink))
    return shrink, min(max(samples, 1), _LARGEST_SUPERSAMPLING)
