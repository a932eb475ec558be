"""Which pixels have depth, and the middle of many values."""

from __future__ import annotations

import numpy as np


def is_depth(values: np.ndarray) -> np.ndarray:
    """Where z-depth is finite and above 0: bool of the same shape."""
    return (values > 0) & (values < np.inf)  # false for NaN


def middle_values(values: np.ndarray) -> tuple[float, float]:
    """The two middle ones of ``values`` (n,), n > 0, without NaN: the lower and the upper; one and the same for odd n.

    One partition and a maximum, as numpy takes several times longer to find two places than to find one.
    """
    half = len(values) // 2
    parted = np.partition(values, half)
    upper = float(parted[half])
    return (upper if len(values) % 2 else float(parted[:half].max())), upper
