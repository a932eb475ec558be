"""Camera rigs and the ways on which they move through a room."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from da3_ros.training.scenes.rooms import Rooms

MOTIONS = ("drive", "turn", "drone")

# Columns are the optical axes (x right, y down, z forward) in body axes (x forward, y left, z up); REP 103.
R_BODY_OPTICAL = ((0.0, 0.0, 1.0), (-1.0, 0.0, 0.0), (0.0, -1.0, 0.0))


@dataclass(frozen=True)
class RigCamera:
    """One pinhole camera of a rig: ``K`` (3, 3) and ``T_base_cam`` (4, 4), CPU float64."""

    name: str
    width: int
    height: int
    K: torch.Tensor
    T_base_cam: torch.Tensor


def make_rig(cameras: int, width: int = 320, height: int = 240, fov_deg: float = 82.0) -> tuple[RigCamera, ...]:
    """A usual rig: 1 front; 2 a stereo pair, 0.2 m apart; 3 left, front and right, overlapping; more: a ring."""
    side = math.radians(52)
    if cameras == 1:
        mounts = [("front", 0.25, 0.0, 0.0)]
    elif cameras == 2:
        mounts = [("left", 0.25, 0.1, 0.0), ("right", 0.25, -0.1, 0.0)]
    elif cameras == 3:
        mounts = [("left", 0.15, 0.15, side), ("front", 0.25, 0.0, 0.0), ("right", 0.15, -0.15, -side)]
    else:
        names = ("front", "left", "rear", "right") if cameras == 4 else [f"camera{i}" for i in range(cameras)]
        yaws = [2 * math.pi * number / cameras for number in range(cameras)]
        mounts = [(name, 0.2 * math.cos(yaw), 0.2 * math.sin(yaw), yaw) for name, yaw in zip(names, yaws, strict=True)]
    focal = width / 2 / math.tan(math.radians(fov_deg) / 2)
    K = torch.tensor([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]], dtype=torch.float64)
    return tuple(RigCamera(name, width, height, K, _mount(x, y, yaw)) for name, x, y, yaw in mounts)


def _mount(x: float, y: float, yaw: float, z: float = 0.95, down_deg: float = 6.0) -> torch.Tensor:
    """T_base_cam of a camera that looks along ``yaw`` and a little down."""
    T = torch.eye(4, dtype=torch.float64)
    optical = torch.tensor(R_BODY_OPTICAL, dtype=torch.float64)
    roll = torch.zeros((), dtype=torch.float64)
    turn = rotation(torch.tensor(yaw).double(), torch.tensor(math.radians(down_deg)).double(), roll)
    T[:3, :3] = turn @ optical
    T[:3, 3] = torch.tensor([x, y, z])
    return T


def rotation(yaw: torch.Tensor, pitch: torch.Tensor, roll: torch.Tensor) -> torch.Tensor:
    """Rotation (..., 3, 3) about fixed x by ``roll``, then y by ``pitch`` (nose down), then z by ``yaw``; radians."""
    cy, sy, cp, sp, cr, sr = yaw.cos(), yaw.sin(), pitch.cos(), pitch.sin(), roll.cos(), roll.sin()
    rows = [
        cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr,
        sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr,
        -sp, cp * sr, cp * cr,
    ]  # fmt: skip
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def trajectory(motion: str, rooms: Rooms, steps: int, rate_hz: float, generator: torch.Generator) -> torch.Tensor:
    """Smooth way of the rig's base through each room: T_world_base (R, steps, 4, 4) float64.

    ``motion``: ``drive`` forward on the floor round the room; ``turn`` on the spot; ``drone`` in the air with
    climbing, rolling and pitching.
    """
    R = len(rooms.centre)
    draw = torch.rand(R, 6, generator=generator, device=generator.device).double().unsqueeze(-1)  # (R, 6, 1)
    time = torch.arange(steps, device=rooms.device, dtype=torch.float64) / rate_hz
    # A way round the table that keeps 1.6 m off the walls, where the furniture stands.
    a, b = (rooms.size[:, axis, None].double() / 2 - 1.6 for axis in (0, 1))
    direction = torch.where(draw[:, 0] < 0.5, -1.0, 1.0)
    speed = 0.7 + 0.3 * torch.sin(2 * math.pi * (0.15 * time + draw[:, 1]))  # metres a second
    around = math.pi * (a + b)
    way = torch.cumsum(speed, 1) / rate_hz / around * (0.0 if motion == "turn" else 1.0)
    phase = 2 * math.pi * (draw[:, 2] + direction * way)
    x, y = a * phase.cos(), b * phase.sin()
    heading = torch.atan2(direction * b * phase.cos(), -direction * a * phase.sin())
    wobble = torch.sin(2 * math.pi * (0.25 * time + draw[:, 3]))
    zero = torch.zeros_like(x)
    if motion == "turn":
        yaw, pitch, roll, z = heading + direction * math.radians(40) * time, zero, zero, zero
    elif motion == "drone":
        yaw, z = heading + 0.25 * wobble, 0.35 + 0.3 * torch.sin(2 * math.pi * (0.2 * time + draw[:, 4]))
        pitch, roll = 0.1 * wobble, 0.12 * torch.sin(2 * math.pi * (0.3 * time + draw[:, 5]))
    else:
        yaw, pitch, roll, z = heading + 0.06 * wobble, zero, zero, zero
    T = torch.zeros(R, steps, 4, 4, dtype=torch.float64, device=rooms.device)
    T[..., :3, :3] = rotation(yaw, pitch, roll)
    T[..., :3, 3] = torch.stack([x, y, z], -1)
    T[..., 3, 3] = 1.0
    return T
