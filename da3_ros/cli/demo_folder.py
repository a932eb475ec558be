"""What a folder of real pictures says about itself, whichever file describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from da3_ros.cli.demo_sequence import SequenceCamera, frame_id
from da3_ros.datatypes import CameraCalibration
from da3_ros.errors import InputError
from da3_ros.geometry.distortion import check_distortion
from da3_ros.geometry.se3 import is_rigid

NOMINAL_RATE_HZ = 10.0


@dataclass(frozen=True)
class Picture:
    """Where one picture is, what is known about it; ``time_s`` None: no stamp."""

    file: Path
    time_s: Decimal | None = None
    depth_file: Path | None = None
    depth_scale: float = 1000.0
    T_world_cam: np.ndarray | None = None


@dataclass(frozen=True)
class PictureFolder:
    """Everything that a calibration file says: cameras, and for each the pictures in order."""

    title: str
    cameras: tuple[SequenceCamera, ...]
    pictures: Mapping[str, tuple[Picture, ...]]
    rate_hz: float
    notes: tuple[str, ...] = ()


def parse_camera(name: str, values: Mapping[str, Any], extrinsics_key: str, where: Path) -> SequenceCamera:
    """One camera from its entries K (9 numbers), distortion_model, D, width, height and ``extrinsics_key``."""

    def fail(text: str) -> InputError:
        return InputError(f"{where}: camera '{name}': {text}")

    T = values.get(extrinsics_key)
    if T is not None:
        T = _matrix(T, (4, 4))
        if T is None or not is_rigid(T):
            raise fail(f"{extrinsics_key} is no rigid transform: give 4 rows of 4 numbers, the last one 0 0 0 1")
    if values.get("K") is None:
        return SequenceCamera(name, frame_id(name), None, T)
    K = _matrix(values["K"], (3, 3))
    if K is None or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
        raise fail("K must be 9 numbers, row by row, with positive focal lengths")
    model, D = values.get("distortion_model", "none"), tuple(float(value) for value in values.get("D") or ())
    problem = check_distortion(D, model)
    if problem:
        raise fail(problem)
    # Sizes that are not given are taken from the first picture.
    width, height = int(values.get("width") or 0), int(values.get("height") or 0)
    return SequenceCamera(name, frame_id(name), CameraCalibration(width, height, K, D, model), T)


def _matrix(values: Any, shape: tuple[int, int]) -> np.ndarray | None:
    """``values``, nested or flat, as a float64 matrix; None when they are none."""
    try:
        return np.array(values, dtype=np.float64).reshape(shape)
    except (TypeError, ValueError):
        return None
