"""A drive as the mapper sees it: keyframe material with exact depth and textured walls, odometry that drifts, and a
network that relates any two places, truthfully or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from da3_ros.evaluation import simulated_windows as sim
from da3_ros.geometry.se3 import T_from, invert
from da3_ros.tracking.keyframe_store import KeyframeView
from da3_ros.tracking.loop_closure import SharedWindow
from da3_ros.tracking.mapping import StepMaps, StepView

def texture(points: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) uint8 of points on the walls."""
    waves = [np.sin(2.1 * points[..., 0] + phase) * np.cos(1.7 * points[..., 1] + phase) for phase in (0.0, 1.0, 2.0)]
    return (127 + 90 * np.stack(waves, -1) + 30 * np.sin(3.0 * points[..., 2:])).clip(0, 255).astype(np.uint8)


def rays() -> np.ndarray:
    """Rays (H, W, 3) with z = 1 through the pixels of a simulated view."""
    v, u = np.mgrid[: sim.HEIGHT, : sim.WIDTH]
    return np.stack([(u - sim.K_SIMULATED[0, 2]) / sim.K_SIMULATED[0, 0], (v - sim.K_SIMULATED[1, 2]) / sim.K_SIMULATED[1, 1], np.ones_like(u)], -1)


class Drive:
    """Steps of one camera along ``way`` (poses T_world_base), with a yaw error of ``yaw_drift`` in each metre."""

    def __init__(self, way: Sequence[np.ndarray], yaw_drift: float = 0.0, depth_noise: float = 0.0, seed: int = 0):
        self.way = way
        self._depth_noise = depth_noise
        self._rng, self._look_rng = np.random.default_rng(seed), np.random.default_rng(seed + 1)
        self._places = np.random.default_rng(99).normal(size=(64, 4)) * [0.8, 0.8, 1.5, 1.5]
        self._phases = np.random.default_rng(98).uniform(0, 6.28, 64)
        self.T_world_cam: dict[bytes, np.ndarray] = {}  # of every view by its pose in odom
        self.true: list[np.ndarray] = []  # T_odom_base (4, 4), odom being the first pose
        self.odom: list[np.ndarray] = []
        pose = np.eye(4)
        for number, T_world_base in enumerate(way):
            if number:
                T = invert(way[number - 1]) @ T_world_base
                turn = yaw_drift * float(np.linalg.norm(T[:3, 3]))
                pose = pose @ T @ T_from(sim.yaw(turn), np.zeros(3))
            self.odom.append(pose)
            self.true.append(invert(way[0]) @ T_world_base)

    def __len__(self) -> int:
        return len(self.way)

    def maps(self, step: int, change: Callable | None = None) -> StepMaps:
        """StepMaps; ``change`` (depth, colours) -> the same, to put things into the picture."""
        T_world_base, mount = self.way[step], sim.FRONT["front"]
        T_world_cam, T_odom_cam = T_world_base @ mount, self.odom[step] @ mount
        self.T_world_cam[T_odom_cam.tobytes()] = T_world_cam
        depth = sim.true_depth(T_world_cam)
        colours = texture((depth[..., None] * rays()) @ T_world_cam[:3, :3].T + T_world_cam[:3, 3])
        if change is not None:
            depth, colours = change(depth, colours)
        depth = depth * np.exp(self._rng.normal(size=depth.shape) * self._depth_noise)
        heading = math.atan2(T_world_base[1, 0], T_world_base[0, 0])
        where = np.array([*T_world_base[:2, 3], math.cos(heading), math.sin(heading)])
        picture = np.ascontiguousarray(colours.transpose(2, 0, 1))
        view = StepView(
            "front", T_odom_cam, sim.K_SIMULATED, (0, 0, sim.HEIGHT, sim.WIDTH), depth, np.ones_like(depth), colours, picture
        )
        descriptors = np.cos(self._places @ where + self._phases)[None]
        return StepMaps(1_000_000_000 + step * 100_000_000, self.odom[step], (view,), descriptors)

    def look(self, views: Sequence[KeyframeView]) -> SharedWindow:
        """A window across two places as a perfect network gives it, in a gauge of its own."""
        scale = math.exp(self._look_rng.uniform(-1, 1))
        gauge = T_from(sim._random_rotation(self._look_rng), self._look_rng.normal(size=3))
        poses = []
        for view in views:
            T = gauge @ self.T_world_cam[view.T_odom_cam.tobytes()]
            T[:3, 3] /= scale
            poses.append(T)
        return SharedWindow(np.stack(poses), [view.depth.astype(np.float64) / scale for view in views])
