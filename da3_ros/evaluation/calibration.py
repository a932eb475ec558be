"""Does low confidence mean high error? Errors by confidence, rank correlation and sparsification."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from da3_ros.errors import InputError


@dataclass(frozen=True)
class ConfidenceCalibration:
    """What the confidence of pixels says of their errors. Arrays (bins,) go from the least to the most confident.

    ``confidence``, ``mean_error`` and ``median_error`` of equally many pixels each. ``kept_error``: the mean error of
    what is left once the bins before it are dropped; ``oracle_error``: the same with the largest errors dropped
    first. ``rank_correlation``: Spearman's, of confidence and error: -1 where the confidence orders the errors
    perfectly, 0 where it says nothing. ``ause``: mean distance of the two curves, relative to the mean error
    (0: perfect).
    """

    confidence: np.ndarray
    mean_error: np.ndarray
    median_error: np.ndarray
    kept_error: np.ndarray
    oracle_error: np.ndarray
    rank_correlation: float
    ause: float
    pixels: int


def confidence_calibration(confidence: np.ndarray, error: np.ndarray, bins: int = 10) -> ConfidenceCalibration:
    """Calibration of ``confidence`` (any shape) against ``error`` (same shape, >= 0); NaN in either: no pixel.

    Pixels of equal confidence are in the order of the array. Raises InputError for unequal shapes and for fewer pixels
    than ``bins``.
    """
    c, e = np.asarray(confidence, dtype=np.float64), np.asarray(error, dtype=np.float64)
    if c.shape != e.shape:
        raise InputError(f"confidence {c.shape} and error {e.shape} differ in shape: bring them to one size")
    both = np.isfinite(c) & np.isfinite(e)
    c, e = c[both], e[both]
    if len(c) < bins:
        raise InputError(f"{len(c)} pixels have confidence and error, too few for {bins} bins")
    order = np.argsort(c, kind="stable")
    edges = np.linspace(0, len(c), bins + 1).round().astype(int)
    parts = [order[start:stop] for start, stop in pairwise(edges)]
    by_error = np.sort(e)[::-1]
    kept = np.array([e[order[start:]].mean() for start in edges[:-1]])
    oracle = np.array([by_error[start:].mean() for start in edges[:-1]])
    ranks = _ranks(c), _ranks(e)
    varied = ranks[0].std() > 0 and ranks[1].std() > 0
    return ConfidenceCalibration(
        confidence=np.array([c[part].mean() for part in parts]),
        mean_error=np.array([e[part].mean() for part in parts]),
        median_error=np.array([np.median(e[part]) for part in parts]),
        kept_error=kept,
        oracle_error=oracle,
        rank_correlation=float(np.corrcoef(*ranks)[0, 1]) if varied else float("nan"),
        ause=float((kept - oracle).mean() / e.mean()) if e.any() else 0.0,
        pixels=len(c),
    )


def _ranks(values: np.ndarray) -> np.ndarray:
    """From 1 on; equal values share the mean of theirs. (scipy.stats has this, and takes seconds to import.)"""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]
