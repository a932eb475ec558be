"""Which keyframes are given up when there are too many."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from da3_ros.evaluation import simulated_windows as sim
from da3_ros.geometry.se3 import T_from
from da3_ros.tracking.keyframe_store import KeyframeStore

LIMIT, LAP, STEP = 100, 130, 1.0  # keyframes, keyframes, metres


def lap(number, drift=0.0):
    """T_map_body (4, 4) of a keyframe on a ring, where odometry turns by ``drift`` radians a metre too much."""
    curvature = 2 * math.pi / (LAP * STEP) + drift
    angle = number * STEP * curvature
    return T_from(sim.yaw(angle), np.array([math.sin(angle), 1 - math.cos(angle), 0.0]) / curvature)


def drive(keyframes, drift=0.0):
    """The numbers that are kept, after each keyframe."""
    store, poses, kept = KeyframeStore(LIMIT), {}, []
    for number in range(keyframes):
        poses[number] = lap(number, drift)
        store.add(SimpleNamespace(number=number, nbytes=1))
        redundant = store.redundant(np.stack(list(poses.values())))
        if redundant is not None:
            store.remove(redundant)
            del poses[redundant]
        kept.append(store.numbers)
    return kept


def test_a_long_way_thins_out_evenly():
    kept = drive(LAP)[-1]
    assert len(kept) == LIMIT and kept[0] == 0
    assert kept[-LIMIT // 10 :] == list(range(LAP - LIMIT // 10, LAP))
    assert max(np.diff(kept)) <= 2


def test_a_stretch_that_was_driven_again_and_again_thins_out():
    kept = np.array(drive(3 * LAP)[-1]) % LAP
    assert max(np.diff(np.unique(kept))) <= 4


@pytest.mark.parametrize("drift", [0.002, 0.004])
def test_what_the_robot_comes_back_to_is_still_there_though_the_map_has_drifted(drift):
    """The way seems to close too early and to lie on its own beginning, where the robot truly is only later."""
    history = drive(LAP + LIMIT // 20, drift)
    for number in range(LAP, len(history)):
        assert any(abs(one - (number - LAP)) <= 2 for one in history[number]), f"{number}: {history[number][:10]}"
