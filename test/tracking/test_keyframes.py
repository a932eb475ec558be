"""Which sets stay in the window."""

import math

import numpy as np
import pytest
import window_simulation as sim

from da3_ros.errors import ConfigError
from da3_ros.geometry.se3 import T_from
from da3_ros.tracking.keyframes import AnchorPolicy, SetGeometry, overlap_share

FOV = np.array([[sim.WIDTH / 2 / sim.FOCAL, sim.HEIGHT / 2 / sim.FOCAL]])


def geometry(x=0.0, y=0.0, heading=0.0):
    T = T_from(sim.yaw(heading), np.array([x, y, 0.0]))
    T_odom_cam = T @ sim.FRONT["front"]
    v, u = np.mgrid[2 : sim.HEIGHT : 4, 2 : sim.WIDTH : 4]
    z = sim.true_depth(T_odom_cam)[v, u]
    x, y = (u + 0.5 - sim.WIDTH / 2) / sim.FOCAL, (v + 0.5 - sim.HEIGHT / 2) / sim.FOCAL
    in_camera = (np.stack([x, y, np.ones_like(z)], -1) * z[..., None]).reshape(-1, 3)
    return SetGeometry(T, in_camera @ T_odom_cam[:3, :3].T + T_odom_cam[:3, 3], T_odom_cam[None], FOV)


def drive(poses, policy, capacity=4):
    """Pushes one set after another; returns the steps that the window holds at the end."""
    held, keyframe = [], None
    for step, pose in enumerate(poses):
        if len(held) == capacity:
            held.pop(policy.leaving([one for _, one, _ in held], [flag for _, _, flag in held]))
        new = geometry(*pose)
        elsewhere = keyframe is None or policy.elsewhere(keyframe, new)
        keyframe = new if elsewhere else keyframe
        held.append((step, new, elsewhere))
    return [step for step, _, _ in held]


def test_overlap_is_one_with_itself_and_none_behind_the_back():
    here = geometry()
    assert overlap_share(here, here) == pytest.approx(1.0, abs=0.05)
    assert overlap_share(here, geometry(heading=math.pi)) == 0.0
    assert 0.3 < overlap_share(here, geometry(heading=math.radians(20))) < 0.9


def test_standing_still_keeps_the_anchors():
    moving = [(-4.0 + 0.8 * k, 0.0, 0.0) for k in range(4)]
    held = drive(moving + [moving[-1]] * 30, AnchorPolicy())
    assert held == [0, 2, 32, 33]  # two anchors from elsewhere, and the newest sets


def test_driving_slowly_keeps_old_views_and_the_newest():
    held = drive([(-5.0 + 0.1 * k, 0.0, 0.0) for k in range(40)], AnchorPolicy())
    assert held[-1] == 39
    assert held[0] < 30  # not merely the last four
    assert len(held) == 4


def test_anchors_that_are_out_of_sight_leave_first():
    held = drive([(0.0, 0.0, 0.0)] + [(0.0, 0.0, math.pi + 0.3 * k) for k in range(4)], AnchorPolicy())
    assert 0 not in held


def test_the_newest_set_never_leaves():
    rng = np.random.default_rng(0)
    poses = rng.uniform([-5, -3, -3], [5, 3, 3], (40, 3))
    policy = AnchorPolicy()
    held = []
    for pose in poses:
        held.append(geometry(*pose))
        if len(held) == 4:
            leaving = policy.leaving(held, [True] * 4)
            assert leaving != len(held) - 1
            held.pop(leaving)


def test_a_policy_that_cannot_be_says_so():
    with pytest.raises(ConfigError, match="min_overlap 2"):
        AnchorPolicy(min_overlap=2)
