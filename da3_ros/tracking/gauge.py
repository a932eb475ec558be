"""Where the window's gauge (the network's arbitrary origin) lies in the odom frame.

Without tracking every window stands for itself: the odom frame is the robot's base at the oldest set that the
window holds, in the network's own length unit. Poses are therefore those of the current window only.
"""

from __future__ import annotations

import functools

import torch


def anchor_window(T_cam_world: torch.Tensor, T_base_first: torch.Tensor) -> torch.Tensor:
    """T_odom_cam (N, 4, 4) of the window's views, the base at the time of the first view being odom's origin.

    ``T_cam_world``: (N, 4, 4) as the network gives them, oldest view first. ``T_base_first``: (4, 4) extrinsics of
    the first view's camera, or the optical-to-body rotation (REP 103) where they are not known, so that odom's
    z axis still points up as that camera sees it. Computed where the tensors are, without host synchronisation.
    """
    return T_base_first @ T_cam_world[0] @ invert_rigid(T_cam_world)


def orthonormalize(T: torch.Tensor) -> None:
    """Make the rotations of transforms (N, 4, 4), which are nearly that, orthonormal in place.

    One step of Newton and Schulz. Those of networks are off by 1e-7, which adds up where each window's poses follow
    from the last one's.
    """
    R = T[:, :3, :3]
    R.copy_(torch.baddbmm(R, R, R.transpose(-1, -2) @ R, beta=1.5, alpha=-0.5))


def invert_rigid(T: torch.Tensor) -> torch.Tensor:
    """Closed-form inverse of rigid transforms (..., 4, 4)."""
    turned, rotation, identity = T.transpose(-1, -2), *_identity(T.device, T.dtype)
    inverse = torch.where(rotation, turned, identity)
    torch.neg(turned[..., :3, :3] @ T[..., :3, 3:], out=inverse[..., :3, 3:])
    return inverse


@functools.cache
def _identity(device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(4, 4): which entries of a transform are its rotation's, and the identity."""
    rotation = torch.ones(4, 4, dtype=torch.bool, device=device)
    rotation[3], rotation[:, 3] = False, False
    return rotation, torch.eye(4, dtype=dtype, device=device)


def squared_motion(T_world_cam: torch.Tensor, newest: slice, depth: torch.Tensor) -> torch.Tensor:
    """Squares (N,) of the motion of N views (N, 4, 4) against the nearest of the ``newest`` views each.

    Motion is the displacement over ``depth`` (), typical of what they see and in the unit of the poses, and the turn in
    radians, as squares.
    """
    turn, place = _by_column(T_world_cam.device)
    # Two rotations that are a small angle apart differ by the square root of 2 times that angle in all.
    at = (T_world_cam[:, :3] * torch.addcdiv(turn, place, depth)).flatten(1)
    return torch.cdist(at, at[newest], compute_mode="donot_use_mm_for_euclid_dist").amin(-1).square()


@functools.cache
def _by_column(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """What the columns (4,) of a pose count in its motion: the rotation's, and its place."""
    numbers = torch.tensor([[0.5**0.5] * 3 + [0.0], [0.0] * 3 + [1.0]], dtype=torch.float64, device=device)
    return numbers[0], numbers[1]
