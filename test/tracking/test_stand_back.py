"""Windows in the robot's own odom frame, where the node stands back."""

import numpy as np
import torch
import window_simulation as sim

from da3_ros.datatypes import Frame, FrameSet, WindowPrediction
from da3_ros.geometry.se3 import T_from, invert
from da3_ros.placement import Placement
from da3_ros.tracking import TrackingSettings, WindowTracking


def test_a_gap_in_the_robots_odometry_is_carried_on_in_its_frame():
    """Its odom is elsewhere than where tracking began."""
    device, rig, gap = torch.device("cpu"), sim.STEREO, range(8, 12)
    tracking = WindowTracking(TrackingSettings(("rig",), 4, len(rig)), device)
    placement = Placement(device, tracking=tracking, stands_back=True)
    tracking.set_rig(rig)
    placement.set_rig(rig)
    T_robot_world = T_from(sim.yaw(1.0), np.array([30.0, -20.0, 0.0]))
    for number, window in enumerate(sim.windows(sim.circle(16), rig, 4)):
        if number == 14:
            tracking.reset()  # what was known of the frames is forgotten with it
        newest = [view for view in window.views if view.newest]
        given = None if number in gap or number >= 14 else T_robot_world @ window.T_world_base
        frames = tuple(Frame(v.camera, v.stamp_ns, np.empty((0, 0, 3)), T_odom_base=given) for v in newest)
        decoded = tuple(range(len(window.views) - len(newest), len(window.views)))
        prediction = WindowPrediction(
            window.views, decoded, window.depth, torch.full_like(window.depth, 2.0), window.T_cam_world, window.K, None,
            sim.colours(window),
        )  # fmt: skip
        tracking.note(FrameSet(newest[-1].stamp_ns, frames))
        placed = placement.place(prediction)
        T_odom_world = placed.T_odom_base.numpy() @ invert(window.T_world_base)
        if number < 14:
            np.testing.assert_allclose(T_odom_world, T_robot_world, atol=1e-3)
            np.testing.assert_allclose(placed.T_odom_cam, T_robot_world @ window.T_world_cam, atol=1e-3)
        else:
            assert np.linalg.norm(placed.T_odom_base[:3, 3]) < 1.0  # a frame of its own
