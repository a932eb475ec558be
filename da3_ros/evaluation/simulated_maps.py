"""A drive as the mapper sees it: keyframe material with exact depth and textured walls, odometry that drifts, and a
network that relates any two places, truthfully or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from da3_ros.evaluation import simulated_windows as sim
from da3_ros.geometry.se3 import T_BODY_OPTICAL, T_from, invert
from da3_ros.tracking.keyframe_store import KeyframeView, map_grid
from da3_ros.tracking.loop_closure import SharedWindow
from da3_ros.tracking.mapping import StepMaps, StepView


def texture(points: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) uint8 of points on the walls."""
    waves = [np.sin(2.1 * points[..., 0] + phase) * np.cos(1.7 * points[..., 1] + phase) for phase in (0.0, 1.0, 2.0)]
    return (127 + 90 * np.stack(waves, -1) + 30 * np.sin(3.0 * points[..., 2:])).clip(0, 255).astype(np.uint8)


def rays() -> np.ndarray:
    """Rays (H, W, 3) with z = 1 through the pixels of a simulated view."""
    v, u = np.mgrid[: sim.HEIGHT, : sim.WIDTH]
    K = sim.K_SIMULATED
    return np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], -1)


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
        content = (0, 0, sim.HEIGHT, sim.WIDTH)
        view = StepView("front", T_odom_cam, sim.K_SIMULATED, content, depth, np.ones_like(depth), colours, picture)
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


_STREET_HW, _STREET_FOCAL = (378, 504), 400.0
_STREET_HALF_WIDTH, _CAMERA_HEIGHT, _FARTHEST = 10.0, 1.5, 60.0  # metres


class StreetDrive:
    """A car on a ring road of ``length`` metres between house fronts, 10 m/s at 10 Hz, one camera of 504x378 pixels.

    Odometry turns by ``yaw_drift`` radians a metre too much. The road bends so little that each view is that of a
    straight street.
    """

    def __init__(self, length: float = 4000.0, yaw_drift: float = 2e-5, seed: int = 0):
        self._length, self._radius, self._yaw_drift = length, length / (2 * math.pi), yaw_drift
        self._rng, self._look_rng = np.random.default_rng(seed), np.random.default_rng(seed + 1)
        smooth = cv2.GaussianBlur(self._rng.normal(size=(_STREET_HW[0], 4096, 3)), (0, 0), 3)
        noise = self._rng.normal(size=smooth.shape) * 4
        self._panorama = (127 + 500 * smooth + noise).clip(0, 255).astype(np.uint8)
        self._waves = np.random.default_rng(99).normal(size=(64, 3)) * [0.1, 0.1, 0.0]
        self._phases = np.random.default_rng(98).uniform(0, 2 * math.pi, 64)
        rows, columns = map_grid(*_STREET_HW)
        v, u = np.mgrid[: _STREET_HW[0], : _STREET_HW[1]]
        x, y = (u - _STREET_HW[1] / 2) / _STREET_FOCAL, (v - _STREET_HW[0] / 2) / _STREET_FOCAL
        with np.errstate(divide="ignore"):
            walls, ground = _STREET_HALF_WIDTH / np.abs(x), np.where(y > 0, _CAMERA_HEIGHT / y, np.inf)
        depth = np.minimum(np.minimum(walls, ground), _FARTHEST)
        # What the panorama shows, 20 pixels to a metre: house fronts, and the road below them.
        across = np.where(ground < walls, x, y) * depth
        self._from = [part.astype(np.float32) for part in (20 * depth, _STREET_HW[0] / 2 + 20 * across)]
        self._depth, x, y = depth[rows, columns], x[rows, columns], y[rows, columns]
        # Along the road, to the left, up; a step is a metre.
        self._points = np.stack([self._depth, -x * self._depth, -y * self._depth], -1)
        self._K = np.array(
            [
                [_STREET_FOCAL / columns.step, 0.0, (_STREET_HW[1] / 2 - columns.start) / columns.step],
                [0.0, _STREET_FOCAL / rows.step, (_STREET_HW[0] / 2 - rows.start) / rows.step],
                [0.0, 0.0, 1.0],
            ]
        )
        self._mount = T_from(np.eye(3), np.array([0.0, 0.0, _CAMERA_HEIGHT])) @ T_BODY_OPTICAL
        self._T_odom_body, self._last = np.eye(4), 0
        self._true: dict[bytes, np.ndarray] = {}

    def true_pose(self, step: int) -> np.ndarray:
        """T_world_body (4, 4); the first one is the identity."""
        angle = step * 1.0 / self._radius
        centre = self._radius * np.array([math.sin(angle), 1 - math.cos(angle), 0.0])
        return T_from(sim.yaw(angle), centre)

    def maps(self, step: int) -> StepMaps:
        """To be called for steps in order, of which some may be left out."""
        if step > self._last:
            T = invert(self.true_pose(self._last)) @ self.true_pose(step)
            turn = self._yaw_drift * (step - self._last)
            self._T_odom_body = self._T_odom_body @ T @ T_from(sim.yaw(turn), np.zeros(3))
            self._last = step
        T_odom_cam = self._T_odom_body @ self._mount
        T_world_body = self.true_pose(step)
        self._true[T_odom_cam.tobytes()] = T_world_body @ self._mount
        along = np.float32(round(20.0 * step) % round(20.0 * self._length) % self._panorama.shape[1])
        picture = cv2.remap(
            self._panorama, self._from[0] + along, self._from[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        picture = np.ascontiguousarray(picture.transpose(2, 0, 1))
        colours = texture(0.5 * (self._points + (step % self._length, 0.0, 0.0)))
        depth = self._depth * np.exp(self._rng.normal(size=self._depth.shape) * 0.02)
        weight = np.where(self._depth < _FARTHEST, 1.0, 0.0)
        content = (0, 0, *_STREET_HW)
        view = StepView("front", T_odom_cam, self._K, content, depth, weight, colours, picture)
        descriptors = np.cos(self._waves @ T_world_body[:3, 3] + self._phases)[None]
        return StepMaps(1_000_000_000 + step * 100_000_000, self._T_odom_body, (view,), descriptors)

    def look(self, views: Sequence[KeyframeView]) -> SharedWindow:
        """A perfect network's answer."""
        scale = math.exp(self._look_rng.uniform(-1, 1))
        poses = np.stack([self._true[view.T_odom_cam.tobytes()] for view in views])
        poses[:, :3, 3] /= scale
        return SharedWindow(poses, [view.depth.astype(np.float64) / scale for view in views])
