"""Which pose ``odometry`` and ``path`` follow, from one estimate to the next."""

from dataclasses import replace

import numpy as np
import pytest

from da3_ros.config import Config, from_flat
from da3_ros.datatypes import Estimate, ScaleEstimate, TrackingEstimate, ViewEstimate
from da3_ros.egress.estimates import EstimateMessages
from da3_ros.egress.message_types import message_builder
from da3_ros.geometry.se3 import T_from

CONFIG = from_flat({"cameras": ["left", "right"]}, Config)


def at(x):
    return T_from(np.eye(3), np.array([x, 0.0, 0.0]))


def estimate(step, base=None, cameras=("left", "right"), anew=False):
    """``base``: x of the base; the cameras are 5 m and 6 m before it."""
    views = tuple(
        ViewEstimate(c, step * 10**8, f"{c}_optical", True, False, at(step + 5.0 + (c == "right")), (2, 2), np.eye(3),
                     np.eye(3), 1.0)
        for c in cameras
    )  # fmt: skip
    tracking = TrackingEstimate("restarted" if anew else "tracking", False, None, anew)
    pose = None if base is None else at(base)
    return Estimate(step * 10**8, step, views, (), pose, ScaleEstimate(), tracking=tracking)


@pytest.fixture
def sent():
    """Odometry (child, x) and length of the path of each estimate so far; None where nothing was sent."""
    messages = EstimateMessages(message_builder(), CONFIG)

    def of(one):
        made = dict(messages.of(one, {}))
        if "odometry" not in made:
            assert "path" not in made
            return None
        odometry = made["odometry"]()
        return odometry.child_frame_id, odometry.pose.pose.position.x, len(made["path"]().poses)

    of.messages = messages
    return of


def test_a_base_that_is_not_there_for_a_while_is_not_replaced_by_a_camera(sent):
    assert sent(estimate(1, base=1.0)) == ("base_link", 1.0, 1)
    assert sent(estimate(2)) is None
    assert sent(estimate(3, base=3.0)) == ("base_link", 3.0, 2)


def test_without_a_rig_the_first_camera_is_followed_and_no_other(sent):
    assert sent(estimate(1)) == ("left_optical", 6.0, 1)
    assert sent(estimate(2, cameras=("right",))) is None
    assert sent(estimate(3)) == ("left_optical", 8.0, 2)


def test_the_path_starts_anew_with_the_base_and_with_odom(sent):
    sent(estimate(1))
    assert sent(estimate(2, base=2.0)) == ("base_link", 2.0, 1)
    assert sent(estimate(3, base=3.0)) == ("base_link", 3.0, 2)
    assert sent(estimate(4, base=4.0, anew=True)) == ("base_link", 4.0, 1)
    untracked = replace(estimate(5, base=5.0), tracking=None)
    assert sent(untracked) == ("base_link", 5.0, 2)


def test_after_a_reset_a_camera_may_be_followed_again(sent):
    sent(estimate(1, base=1.0))
    sent.messages.forget_path()
    assert sent(estimate(2)) == ("left_optical", 7.0, 1)


def test_what_is_followed_goes_on_where_an_interrupted_run_ended(sent):
    """The base was, and is not replaced by a camera while it is not there."""
    sent.messages.resume([object(), object()], "base_link")
    assert sent(estimate(1)) is None
    assert sent(estimate(2, base=2.0)) == ("base_link", 2.0, 3)
