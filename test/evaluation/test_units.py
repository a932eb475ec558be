"""Depth in millimetres where metres belong is noticed, and only that."""

import numpy as np
import pytest

from da3_ros.evaluation.units import UnitCheck

RANDOM = np.random.default_rng(0)
METRES = RANDOM.uniform(1.0, 4.0, (60, 80)).astype(np.float32)


def check(predicted, true, frames=2):
    found = UnitCheck()
    for _ in range(frames):
        found.add(predicted, true)
    return found.warning


@pytest.mark.parametrize(
    ("predicted", "true", "wanted"),
    [
        (METRES, METRES, None),
        (METRES, 1000 * METRES, "true depth looks like millimetres"),
        (0.1 * METRES, np.rint(1000 * METRES), "true depth looks like millimetres"),  # whole, whatever the unit
        (1000 * METRES, METRES, "estimated depth looks like millimetres"),
        (METRES, 100 * METRES, None),  # a view from above, and an estimate in a unit of its own
        (np.full_like(METRES, np.nan), 1000 * METRES, None),
        (1000 * METRES, 1000 * METRES, None),  # both are of mountains
        (METRES, np.rint(10 * METRES), None),  # whole by chance, and near
    ],
)
def test_what_is_said(predicted, true, wanted):
    found = check(predicted, true)
    assert (found is None) if wanted is None else (wanted in found and "rescaled" in found)


def test_numbers_are_named_and_parts_joined():
    whole, later = UnitCheck(), UnitCheck()
    assert whole.warning is None
    later.add(METRES, 1000 * METRES)
    whole.merge(later)
    assert "1e+03 times the estimate" in whole.warning
