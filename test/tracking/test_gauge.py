"""Poses of a window, placed in odom."""

import torch

from da3_ros.tracking import anchor_window, invert_rigid
from da3_ros.tracking.gauge import squared_motion


def random_poses(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    R, _ = torch.linalg.qr(torch.randn((count, 3, 3), generator=generator, dtype=torch.float64))
    T = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    T[:, :3, :3] = R * torch.linalg.det(R)[:, None, None]
    T[:, :3, 3] = torch.randn((count, 3), generator=generator, dtype=torch.float64)
    return T


def test_inverse_times_pose_is_identity():
    T = random_poses(5)
    torch.testing.assert_close(invert_rigid(T) @ T, torch.eye(4, dtype=torch.float64).repeat(5, 1, 1))


def test_the_base_at_the_first_view_is_the_origin_of_odom():
    T_cam_world, T_base_cam = random_poses(4), random_poses(1, seed=1)[0]
    T_odom_cam = anchor_window(T_cam_world, T_base_cam)
    T_odom_base = T_odom_cam[0] @ invert_rigid(T_base_cam)
    torch.testing.assert_close(T_odom_base, torch.eye(4, dtype=torch.float64))


def test_poses_do_not_depend_on_the_gauge_of_the_network():
    T_cam_world, T_base_cam = random_poses(4), random_poses(1, seed=1)[0]
    other_world = T_cam_world @ random_poses(1, seed=2)[0]
    torch.testing.assert_close(anchor_window(T_cam_world, T_base_cam), anchor_window(other_world, T_base_cam))


def test_motion_is_turn_and_displacement_over_depth_from_the_nearest_newest_view():
    T = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    T[1, 0, 3] = 1.0  # a fifth of the depth from the last one, which is the nearest of the two newest
    angle = torch.tensor(0.2, dtype=torch.float64)
    T[2, 0, 0], T[2, 0, 1], T[2, 1, 0], T[2, 1, 1] = angle.cos(), -angle.sin(), angle.sin(), angle.cos()
    T[3, 0, 3] = 9.0
    found = squared_motion(T, slice(3, None), torch.tensor(5.0, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.04, 0.04, 0, 0], dtype=torch.float64), rtol=0.01, atol=1e-12)
