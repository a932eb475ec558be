"""Windows as a perfect network would predict them, each in a gauge of its own, with noise and outliers to order.

A rig drives in an empty hall whose walls give exact depth: this tests the tracker apart from the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from da3_ros.datatypes import View, WindowView
from da3_ros.geometry.se3 import T_BODY_OPTICAL, T_from, invert
from da3_ros.streaming.window import Slot
from da3_ros.tracking import TrackedWindow, Tracker

HALL = np.array([14.0, 9.0, 4.0])  # metres; the robot drives inside it
HEIGHT, WIDTH, FOCAL = 36, 48, 30.0
RATE_HZ = 10.0


def yaw(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def mount(x: float, y: float, heading: float) -> np.ndarray:
    """T_base_cam (4, 4) of a camera 0.5 m above the base."""
    return T_from(yaw(heading), np.array([x, y, 0.5])) @ T_BODY_OPTICAL


FRONT = {"front": mount(0.2, 0.0, 0.0)}
STEREO = {"left": mount(0.2, 0.15, 0.0), "right": mount(0.2, -0.15, 0.0)}
RING = {f"camera{i}": mount(0.2 * math.cos(a), 0.2 * math.sin(a), a) for i, a in enumerate(np.arange(4) * math.pi / 2)}


def straight(steps: int, speed: float = 0.5) -> list[np.ndarray]:
    """T_world_base (4, 4) along the hall."""
    return [T_from(np.eye(3), np.array([-5.0 + speed * k / RATE_HZ, 0.0, 0.0])) for k in range(steps)]


def circle(steps: int, radius: float = 2.0, per_step: float = 0.025) -> list[np.ndarray]:
    poses = []
    for k in range(steps):
        a = k * per_step
        poses.append(T_from(yaw(a + math.pi / 2), np.array([radius * math.cos(a), radius * math.sin(a), 0.0])))
    return poses


def figure_of_eight(steps: int, turns: int = 4) -> list[np.ndarray]:
    a = np.linspace(0, 2 * math.pi * turns, steps)
    x, y = 4.0 * np.sin(a), 1.8 * np.sin(2 * a)
    heading = np.arctan2(3.6 * np.cos(2 * a), 4.0 * np.cos(a))
    return [T_from(yaw(h), np.array([px, py, 0.0])) for px, py, h in zip(x, y, heading, strict=True)]


def turning(steps: int, per_step: float = 0.04) -> list[np.ndarray]:
    return [T_from(yaw(k * per_step), np.zeros(3)) for k in range(steps)]


def stop_and_go(steps: int) -> list[np.ndarray]:
    """Stands for every other 20 steps."""
    x = np.cumsum([0.0 if (k // 20) % 2 else 0.05 for k in range(steps)])
    return [T_from(np.eye(3), np.array([-5.0 + value, 0.5, 0.0])) for value in x]


def back_and_forth(steps: int, per_step: float = 0.1, length: int = 60) -> list[np.ndarray]:
    """Along the hall and backwards to the start again, ``length`` steps each way."""
    x = [per_step * (length - abs(k % (2 * length) - length)) for k in range(steps)]
    return [T_from(np.eye(3), np.array([-5.0 + value, 0.5, 0.0])) for value in x]


def true_depth(T_world_cam: np.ndarray) -> np.ndarray:
    """z-depth (H, W) of the hall's walls, floor and ceiling."""
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    rays = np.stack([(u + 0.5 - WIDTH / 2) / FOCAL, (v + 0.5 - HEIGHT / 2) / FOCAL, np.ones_like(u)], -1)
    rays = rays @ T_world_cam[:3, :3].T  # length along the optical axis: 1
    origin = T_world_cam[:3, 3]
    low, high = np.array([-HALL[0] / 2, -HALL[1] / 2, -0.5]), np.array([HALL[0] / 2, HALL[1] / 2, HALL[2]])
    with np.errstate(divide="ignore"):
        reach = np.where(rays > 0, (high - origin) / rays, (low - origin) / rays)
    return reach.min(-1)


@dataclass(frozen=True)
class Noise:
    """Relative deviations of depth, by pixel and by view; of poses; share of depth that is wrong altogether; relative
    deviation of the scale that a metric network gives, by window."""

    depth: float = 0.0
    view_depth: float = 0.0
    rotation_rad: float = 0.0
    translation: float = 0.0  # metres
    outliers: float = 0.0
    metres: float = 0.0


@dataclass(frozen=True)
class Window:
    """One prediction. ``metres_per_unit`` and ``T_world_cam`` (N, 4, 4) are the truth."""

    views: tuple[WindowView, ...]
    T_cam_world: torch.Tensor
    K: torch.Tensor
    depth: torch.Tensor  # of the newest set
    metres_per_unit: float
    T_world_base: np.ndarray
    T_world_cam: np.ndarray


def windows(
    way: Sequence[np.ndarray],
    rig: dict[str, np.ndarray],
    sets: int = 4,
    noise: Noise | None = None,
    seed: int = 0,
    missing: dict[int, set[str]] | None = None,
    leaving: Callable[[list[Slot]], list[Slot] | None] = lambda slots: None,
) -> Iterator[Window]:
    """The windows of a rig on its way; ``missing``: step -> cameras that are not there."""
    rng = np.random.default_rng(seed)
    noise = noise or Noise()
    held: list[list[tuple[str, int, np.ndarray]]] = []
    for step, T_world_base in enumerate(way):
        stamp = 1_000_000_000 + round(step * 1e9 / RATE_HZ)
        present = [camera for camera in rig if camera not in (missing or {}).get(step, set())]
        leaves = _leaving(held, leaving, len(held) == sets)
        if leaves is not None:
            held.pop(leaves)
        held.append([(camera, stamp, T_world_base @ rig[camera]) for camera in present])
        members = [member for group in held for member in group]
        newest = len(held[-1])
        scale = math.exp(rng.uniform(-1.0, 1.0))  # metres per unit
        gauge = T_from(_random_rotation(rng), rng.normal(size=3) * 5)
        poses, depth = [], []
        for index, (_, _, T_world_cam) in enumerate(members):
            T = (
                gauge
                @ T_world_cam
                @ T_from(_small_rotation(rng, noise.rotation_rad), rng.normal(size=3) * noise.translation)
            )
            T[:3, 3] /= scale
            poses.append(invert(T))
            if index >= len(members) - newest:
                z = true_depth(T_world_cam) / scale
                z = z * np.exp(rng.normal(size=z.shape) * noise.depth + rng.normal() * noise.view_depth)
                wrong = rng.random(z.shape) < noise.outliers
                depth.append(np.where(wrong, z * rng.uniform(0.1, 3.0, z.shape), z))
        views = tuple(
            WindowView(camera, at, f"{camera}_optical_frame", index >= len(members) - newest, VIEW_SIMULATED)
            for index, (camera, at, _) in enumerate(members)
        )
        yield Window(
            views,
            torch.from_numpy(np.stack(poses)).float(),
            torch.from_numpy(K_SIMULATED).float().expand(len(views), 3, 3),
            torch.from_numpy(np.stack(depth)).float(),
            scale,
            T_world_base,
            np.stack([T for _, _, T in members]),
        )


K_SIMULATED = np.array([[FOCAL, 0, WIDTH / 2 - 0.5], [0, FOCAL, HEIGHT / 2 - 0.5], [0, 0, 1]])
VIEW_SIMULATED = View("any", (HEIGHT, WIDTH), (0, 0, HEIGHT, WIDTH), K_SIMULATED, True)


def _leaving(held: list[list[tuple[str, int, np.ndarray]]], leaving: Callable, full: bool) -> int | None:
    """Index of the set that leaves: the one that ``leaving`` names, else the oldest if the window is ``full``."""
    slots = [Slot(0, WindowView(camera, at, "", False, VIEW_SIMULATED)) for group in held for camera, at, _ in group]
    chosen = leaving(slots)
    if chosen is None:
        return 0 if full else None
    return next(index for index, group in enumerate(held) if group[0][1] == chosen[0].view.stamp_ns)


def colours(window: Window) -> torch.Tensor:
    """Pictures (M, 3, H, W) uint8 with some texture."""
    return torch.arange(WIDTH).mul(5).to(torch.uint8).expand(len(window.depth), 3, HEIGHT, WIDTH)


def surface_distance(points: np.ndarray) -> np.ndarray:
    """Distance (n,) of points (n, 3) in the world from the nearest surface of the hall."""
    low, high = np.array([-HALL[0] / 2, -HALL[1] / 2, -0.5]), np.array([HALL[0] / 2, HALL[1] / 2, HALL[2]])
    return np.minimum(np.abs(points - low), np.abs(points - high)).min(-1)


def step(tracker: Tracker, window: Window, rig: dict[str, np.ndarray], **more: Any) -> TrackedWindow:
    """``tracker`` one step on, as Placement takes it."""
    confidence = torch.full_like(window.depth, 2.0)
    return tracker.step(
        window.views, window.T_cam_world, window.K, window.depth, confidence, colours(window), rig, **more
    )


def _random_rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def _small_rotation(rng: np.random.Generator, stddev: float) -> np.ndarray:
    x, y, z = rng.normal(size=3) * stddev
    q, r = np.linalg.qr(np.array([[1, -z, y], [z, 1, -x], [-y, x, 1.0]]))
    return q * np.sign(np.diag(r))
