"""What bench_loops counts as a false loop."""

import numpy as np
import pytest

from da3_ros.cli.bench_loops import is_false
from da3_ros.geometry.se3 import T_from
from da3_ros.tracking.similarity import scaling


def pose(yaw_deg, x):
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return T_from(np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]), np.array([x, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("found", "false"),
    [
        (pose(10.0, 0.3) @ scaling(1.2), False),
        (pose(19.0, 1.7), False),
        (pose(31.0, 0.3), True),
        (pose(10.0, 1.9), True),  # turned as it should be, and elsewhere
        (pose(10.0, -1.3), True),
    ],
)
def test_a_loop_is_false_that_turns_or_lies_otherwise_than_the_truth(found, false):
    assert is_false(found, pose(10.0, 0.3), median_depth=3.0) == false
