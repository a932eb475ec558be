"""How cameras move: robots that drive, turn, fly, hands that carry, ways round an object; and rigs of cameras."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from da3_ros.training.scenes.rig import R_BODY_OPTICAL, rotation
from da3_ros.training.worlds.draws import Draws, constant
from da3_ros.training.worlds.indoors import DESK_M
from da3_ros.training.worlds.products import product, rotated

# Per step, in units of the scene's stride, least and most: forward, left, up; then turn, nod in degrees; then how
# much position (strides) and direction (degrees) are shaken; share of the samples.
_MOTIONS = {
    "drive": ((0.4, 1.6), (-0.05, 0.05), (0.0, 0.0), (-8.0, 8.0), (0.0, 0.0), 0.02, 0.5, 0.30),
    "turn": ((0.0, 0.05), (-0.05, 0.05), (0.0, 0.0), (-22.0, 22.0), (0.0, 0.0), 0.01, 0.3, 0.12),
    "drone": ((-0.5, 1.5), (-1.0, 1.0), (-0.5, 0.5), (-12.0, 12.0), (-5.0, 5.0), 0.1, 2.0, 0.18),
    "hand": ((-0.5, 0.8), (-0.7, 0.7), (-0.2, 0.2), (-10.0, 10.0), (-4.0, 4.0), 0.25, 4.0, 0.20),
    "round": ((-0.1, 0.1), (-1.5, 1.5), (-0.3, 0.3), (0.0, 0.0), (0.0, 0.0), 0.15, 2.0, 0.20),
}
MOTIONS = tuple(_MOTIONS)


@dataclass(frozen=True)
class Ways:
    """``T_world_cam`` (B, S, C, 4, 4) of C cameras at S steps; ``fov`` (B,) radians along the longer image side."""

    T_world_cam: Tensor
    fov: Tensor


def ways(draws: Draws, kind: Tensor, room_half: Tensor, steps: int, cameras: int) -> Ways:
    """Moving rigs. ``kind`` (B,): 0 room, 1 desk, 2 outdoors; ``room_half`` (B, 3) bounds the indoor ones."""
    d = draws
    desk, outside = kind == 1, kind == 2
    motion = _motion(d, desk)
    # Strides: metres between two steps when driving.
    stride = d.log_uniform(0.06, 0.6)
    stride = torch.where(desk, d.log_uniform(0.02, 0.2), torch.where(outside, d.log_uniform(0.15, 2.5), stride))
    low, high, shake, swing = _ranges(motion, d.device)
    rate = low + (high - low) * d.unit(5)  # forward, left, up, turn, nod
    turned, nodded = (torch.deg2rad(rate[:, 3 + i]) for i in range(2))
    fov = torch.deg2rad(d.uniform(40.0, 100.0))
    # Where it starts to look: desks from above and around, robots level, drones and hands a little down.
    heading = d.uniform(-math.pi, math.pi)
    flies = (motion == MOTIONS.index("drone")) | (motion == MOTIONS.index("hand"))
    flies_high = (motion == MOTIONS.index("drone")) & outside & d.chance(0.6)
    nose_down = torch.where(flies, d.uniform(-0.15, 0.5), d.uniform(-0.05, 0.2))
    nose_down = torch.where(flies_high, d.uniform(0.2, 1.1), nose_down)
    nose_down = torch.where(desk, d.uniform(0.3, 1.2), nose_down)
    along_street = outside & d.chance(0.6)
    heading = torch.where(along_street, d.one_of((0.0, math.pi)) + d.normal() * 0.25, heading)
    focus = torch.where(desk, d.log_uniform(0.3, 1.1), torch.where(outside, d.uniform(4.0, 15.0), d.uniform(1.2, 4.0)))
    # Going round turns the camera by what it moves sideways, so that it keeps its focus in sight.
    rounding = motion == MOTIONS.index("round")
    turned = torch.where(rounding, -rate[:, 1] * (stride / focus).clamp(max=0.35), turned)
    nodded = torch.where(rounding, rate[:, 2] * (stride / focus).clamp(max=0.35), nodded)

    at = torch.arange(steps, device=d.device) - (steps - 1) / 2
    shaken = torch.deg2rad(swing).unsqueeze(1)
    yaw = heading.unsqueeze(1) + at * turned.unsqueeze(1) + shaken * d.normal(steps)
    pitch = nose_down.unsqueeze(1) + at * nodded.unsqueeze(1) + shaken * d.normal(steps)
    pitch = pitch.clamp(-1.2, 1.45)
    lean = (torch.deg2rad(torch.where(flies | desk, 6.0, 0.7)) * d.normal()).unsqueeze(1)
    R = rotation(yaw, pitch, lean + shaken * d.normal(steps))  # (B, S, 3, 3) world from body
    level = rotation(yaw, torch.zeros_like(yaw), torch.zeros_like(yaw))
    move = rotated(level, rate[:, None, :3]) * stride.view(-1, 1, 1)
    path = move.cumsum(1) + (shake * stride).view(-1, 1, 1) * torch.stack([d.normal(steps) for _ in range(3)], -1)
    path = path - path.mean(1, keepdim=True)
    path = torch.where(constant((True, True, False), d.device) | flies.view(-1, 1, 1) | desk.view(-1, 1, 1), path, 0.0)

    mounts, spread = _mounts(d, cameras, desk)
    path = _placed(d, path, R, kind, room_half, focus, flies_high, spread)
    base = torch.zeros(d.samples, steps, 4, 4, device=d.device)
    base[..., :3, :3], base[..., :3, 3], base[..., 3, 3] = R, path, 1.0
    return Ways(product(base.unsqueeze(2), mounts.unsqueeze(1)), fov)


def _motion(d: Draws, desk: Tensor) -> Tensor:
    """(B,) number of the motion; at desks one flies, carries or goes round."""
    shares = constant(tuple(values[-1] for values in _MOTIONS.values()), d.device)
    motion = (d.unit().unsqueeze(1) >= shares.cumsum(0)).sum(1).clamp(max=len(MOTIONS) - 1)
    return torch.where(desk & (motion < 2), MOTIONS.index("round") - motion, motion)


def _ranges(motion: Tensor, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Least and most rates (B, 5), shakes of position and direction (B,)."""
    rows: list[tuple] = list(_MOTIONS.values())
    low, high = (constant(tuple(tuple(rate[end] for rate in row[:5]) for row in rows), device) for end in (0, 1))
    shake, swing = (constant(tuple(row[i] for row in rows), device) for i in (5, 6))
    return low[motion], high[motion], shake[motion], swing[motion]


def _mounts(d: Draws, cameras: int, desk: Tensor) -> tuple[Tensor, Tensor]:
    """T_base_cam (B, C, 4, 4) of a stereo row, a fan with overlap or a ring without; and the rig's radius (B,)."""
    kind = d.unit()
    row, fan = kind < 0.4, kind < 0.7
    size = torch.where(desk, d.log_uniform(0.02, 0.12), d.log_uniform(0.05, 0.5))
    number = torch.arange(cameras, device=d.device) - (cameras - 1) / 2
    apart = torch.where(fan, d.uniform(0.25, 0.8), 2 * math.pi / max(cameras, 2) * d.uniform(0.6, 1.0))
    yaw = torch.where(row, 0.0, apart).unsqueeze(1) * number
    yaw = yaw + 0.02 * d.normal(cameras)
    across = torch.where(row.unsqueeze(1), size.unsqueeze(1) * number, size.unsqueeze(1) * 0.5 * yaw.sin())
    ahead = torch.where(row.unsqueeze(1), 0.0, size.unsqueeze(1) * 0.5 * yaw.cos())
    if cameras == 1:
        yaw, across, ahead = yaw * 0.0, across * 0.0, ahead * 0.0
    optical = constant(R_BODY_OPTICAL, d.device)
    T = torch.zeros(d.samples, cameras, 4, 4, device=d.device)
    T[..., :3, :3] = product(rotation(yaw, 0.02 * d.normal(cameras), torch.zeros_like(yaw)), optical)
    T[..., 0, 3], T[..., 1, 3], T[..., 3, 3] = ahead, across, 1.0
    return T, (T[..., :2, 3].norm(dim=-1)).amax(1)


def _placed(
    d: Draws,
    path: Tensor,
    R: Tensor,
    kind: Tensor,
    room_half: Tensor,
    focus: Tensor,
    flies_high: Tensor,
    radius: Tensor,
) -> Tensor:
    """The paths (B, S, 3), centred on zero, moved to where there is room for them."""
    desk, outside = kind == 1, kind == 2
    # Rooms: anywhere that keeps the path off the walls; a path too long for the room is shortened.
    free = (room_half[:, :2] - 0.25 - radius.unsqueeze(1)).clamp(min=0.1).unsqueeze(1)
    extent = path[..., :2].abs().amax(1, keepdim=True)
    shrink = torch.where(
        outside.view(-1, 1, 1), 1.0, (0.9 * free / extent.clamp(min=1e-6)).amin(-1, True).clamp(max=1.0)
    )
    path = path * shrink
    slack = free[:, 0] - path[..., :2].abs().amax(1)
    # Better looking into the room than at the next wall: start behind, as seen along the heading.
    ahead = R[:, :, :2, 0].mean(1)
    start = (d.uniform(-0.9, 0.9, 2) - 0.6 * ahead).clamp(-1.0, 1.0) * slack
    height = (d.log_uniform(0.15, 1.8)).minimum(2 * room_half[:, 2] - 0.4)
    outside_height = torch.where(flies_high, d.log_uniform(3.0, 18.0), d.log_uniform(0.3, 2.2))
    start = torch.where(outside.unsqueeze(1), torch.stack([d.uniform(-8.0, 8.0), d.uniform(-2.5, 2.5)], -1), start)
    height = torch.where(outside, outside_height, height)
    # Desks: as far as the focus from a point on the top, against the direction of view.
    target = torch.stack([d.uniform(-0.2, 0.2), d.uniform(-0.15, 0.15), torch.full_like(height, DESK_M + 0.05)], -1)
    view = R[:, :, :, 0].mean(1)
    above_desk = target - focus.unsqueeze(1) * torch.nn.functional.normalize(view, dim=-1)
    centre = torch.where(desk.unsqueeze(1), above_desk, torch.cat([start, height.unsqueeze(1)], 1))
    path = path + centre.unsqueeze(1)
    # Above the ground, below the ceiling, inside the walls also where a camera was carried or flown there.
    most = torch.where(
        outside.unsqueeze(1),
        1e4,
        torch.cat([room_half[:, :2] - 0.2 - radius.unsqueeze(1), 2 * room_half[:, 2:] - 0.2], 1),
    )
    least = torch.where(outside.unsqueeze(1), -1e4, -most)
    least = torch.cat([least[:, :2], torch.where(desk, DESK_M + 0.08, 0.12).unsqueeze(1)], 1)
    return torch.minimum(torch.maximum(path, least.unsqueeze(1)), most.unsqueeze(1))
