"""Similarity transforms as (4, 4) float64 numpy matrices: the upper left block is scale times rotation.

``S_a_b`` maps points in frame b, in b's metres, to frame a, in a's metres. Metres differ where the scale has drifted.
"""

from __future__ import annotations

import numpy as np

from da3_ros.geometry.se3 import T_from


def scale_of(S: np.ndarray) -> float:
    """Metres of frame a per metre of frame b."""
    return float(np.cbrt(np.linalg.det(S[:3, :3])))


def scaling(scale: float) -> np.ndarray:
    """The similarity that only scales."""
    return np.diag([scale, scale, scale, 1.0])


def invert_similarity(S: np.ndarray) -> np.ndarray:
    """Inverse in closed form."""
    block = S[:3, :3]
    inverse = block.T / scale_of(S) ** 2
    return T_from(inverse, -inverse @ S[:3, 3])


def rigid_part(S: np.ndarray) -> np.ndarray:
    """The rigid pose of frame b in frame a: its origin and axes, without its scale."""
    return T_from(S[:3, :3] / scale_of(S), S[:3, 3])


def transform(S: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) of frame b in frame a."""
    return points @ S[:3, :3].T + S[:3, 3]
