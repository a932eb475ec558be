"""Lens distortion models of sensor_msgs/CameraInfo, as functions of normalised image coordinates (x / z, y / z)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from da3_ros.errors import InputError


def check_distortion(D: tuple[float, ...], model: str) -> str | None:
    """What is wrong with the coefficients ``D`` for ``model``, as a clause; None when ``distort`` can use them."""
    if model == "none":
        return None
    if model not in _MODELS:
        return f"distortion model '{model}' is not one of {', '.join(sorted(_MODELS))}"
    counts, _ = _MODELS[model]
    if len(D) not in counts:
        wanted = " or ".join(str(count) for count in counts)
        return f"{model} has {wanted} distortion coefficients, found {len(D)}"
    if not np.isfinite(D).all():
        return f"distortion coefficients {list(D)} are not all finite"
    if any(value != 0.0 for value in D[8:]):
        return f"thin prism and tilt coefficients {list(D[8:])} are not supported (calibrate {model} with 8)"
    return None


def distort(points: np.ndarray, D: tuple[float, ...], model: str) -> np.ndarray:
    """Where undistorted normalised coordinates ``points`` (..., 2) appear in the distorted normalised image.

    ``model``: ``none``; ``plumb_bob`` (k1 k2 p1 p2 [k3]); ``rational_polynomial`` (k1 k2 p1 p2 k3 k4 k5 k6,
    and up to 6 more that must be zero); ``equidistant`` (k1..k4 of Kannala and Brandt). All as OpenCV defines
    them, the last one in its fisheye module. Raises InputError for another model, or coefficients that do not
    fit it.
    """
    problem = check_distortion(D, model)
    if problem:
        raise InputError(problem)
    points = np.asarray(points, dtype=np.float64)
    return points.copy() if model == "none" else _MODELS[model][1](points, D)


def _brown_conrady(points: np.ndarray, D: tuple[float, ...]) -> np.ndarray:
    k1, k2, p1, p2, k3, k4, k5, k6 = (tuple(D) + (0.0,) * 8)[:8]
    x, y = points[..., 0], points[..., 1]
    r2 = x * x + y * y
    radial = (1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1.0 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return np.stack(
        (
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        ),
        axis=-1,
    )


def _equidistant(points: np.ndarray, D: tuple[float, ...]) -> np.ndarray:
    k1, k2, k3, k4 = D
    r = np.linalg.norm(points, axis=-1, keepdims=True)
    theta = np.arctan(r)
    t2 = theta * theta
    theta_d = theta * (1.0 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return points * np.divide(theta_d, r, out=np.ones_like(r), where=r > 1e-12)


_Model = Callable[[np.ndarray, tuple[float, ...]], np.ndarray]
_MODELS: dict[str, tuple[tuple[int, ...], _Model]] = {
    "plumb_bob": ((4, 5), _brown_conrady),
    "rational_polynomial": ((8, 12, 14), _brown_conrady),
    "equidistant": ((4,), _equidistant),
}
