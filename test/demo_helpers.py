"""A small sequence whose every number is known, for the tests of the demo."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from da3_ros.cli.demo_sequence import Sequence, SequenceCamera, SequenceImage, SequenceStep, frame_id
from da3_ros.datatypes import CameraCalibration
from da3_ros.geometry.se3 import T_BODY_OPTICAL

START_NS = 1_700_000_000_123_456_789
K = np.array([[40.0, 0, 31.5], [0, 41.0, 23.5], [0, 0, 1]])
D = (0.1, -0.05, 0.001, 0.002, 0.01)


def make_camera(name: str, calibrated: bool = True) -> SequenceCamera:
    calibration = CameraCalibration(64, 48, K, D, "plumb_bob") if calibrated else None
    T = T_BODY_OPTICAL.copy()
    T[:3, 3] = 0.25, 0.1, 0.9
    return SequenceCamera(name, frame_id(name), calibration, T if calibrated else None)


def make_pixels(step: int) -> np.ndarray:
    return np.random.default_rng(step).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def make_depth(step: int) -> np.ndarray:
    depth = np.full((48, 64), 2.0 + step, dtype=np.float32)
    depth[0, 0] = np.nan
    return depth


def make_pose(step: int) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = step, 0.0, 0.5
    return T


def make_sequence(steps: int = 2, calibrated: bool = True, file: Path | None = None) -> Sequence:
    def read():
        for step in range(steps):
            stamp_ns = START_NS + step * 100_000_000
            image = SequenceImage("front", stamp_ns, make_pixels(step), make_depth(step), file)
            yield SequenceStep(stamp_ns, (image,), make_pose(step))

    return Sequence("test", (make_camera("front", calibrated),), steps, "base_link", read)
