"""Where the window's gauge (the network's arbitrary origin) lies in the odom frame.

Without tracking every window stands for itself: the odom frame is the robot's base at the oldest set that the
window holds, in the network's own length unit. Poses are therefore those of the current window only.
"""

from __future__ import annotations

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
    R_inverse = T[..., :3, :3].transpose(-1, -2)
    inverse = torch.zeros_like(T)
    inverse[..., :3, :3] = R_inverse
    torch.neg(R_inverse @ T[..., :3, 3:], out=inverse[..., :3, 3:])
    inverse[..., 3, 3].fill_(1.0)  # assigned to a single entry, it would be uploaded
    return inverse
